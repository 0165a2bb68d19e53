/* LD_PRELOAD: from the SSDH_EIO_AFTER-th write or sync on, each one of a file below SSDH_EIO_BELOW
   fails with EIO, as on a disk that breaks. It covers the calls of C and C++ libraries too (HDF5,
   LMDB, Caffe's streams), and not those inside libc itself (fwrite). All processes count together, in
   the file SSDH_EIO_COUNTER of four bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int *calls;

__attribute__((constructor)) static void begin(void) {
    const char *counter = getenv("SSDH_EIO_COUNTER");
    int fd = counter ? open(counter, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *calls, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) calls = mapped;
    close(fd);
}

static int broken(int fd) {
    const char *below = getenv("SSDH_EIO_BELOW"), *after = getenv("SSDH_EIO_AFTER");
    char link[64], path[4096];
    ssize_t size;
    if (!below || !after || !calls) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    if (strncmp(path, below, strlen(below))) return 0;
    return __atomic_add_fetch(calls, 1, __ATOMIC_SEQ_CST) > atoi(after);
}

#define FAILS(type, name, parameters, ...)                              \
    type name parameters {                                              \
        type(*real) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
        if (broken(fd)) { errno = EIO; return -1; }                     \
        return real(__VA_ARGS__);                                       \
    }

FAILS(ssize_t, write, (int fd, const void *data, size_t size), fd, data, size)
FAILS(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), fd, data, size, at)
FAILS(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)
FAILS(ssize_t, writev, (int fd, const struct iovec *parts, int count), fd, parts, count)
FAILS(ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t at), fd, parts, count, at)
FAILS(int, fsync, (int fd), fd)
FAILS(int, fdatasync, (int fd), fd)
FAILS(int, ftruncate, (int fd, off_t size), fd, size)
