"""Records made by several processes and taken in order; threads would share one interpreter."""

import ctypes
import mmap
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import cv2

AHEAD = 4  # chunks a process that are made or wait to be taken
PR_SET_PDEATHSIG = 1


class Chunk(NamedTuple):
    """Records that are made together, and a sentence on each picture that was left out.

    values: bytes, or the size in bytes of a value that stands in the chunk's room, in order.
    """

    keys: list[bytes]
    values: list[bytes | int]
    left_out: list[str]


Make = Callable[[int, memoryview], Chunk]  # of a chunk's start, and its room
Pairs = list[tuple[bytes, bytes | memoryview]]  # keys and values
Chunks = Callable[[Iterable[int]], Iterator[tuple[Pairs, list[str]]]]
_make: Make
_memory: mmap.mmap


@contextmanager
def makers(make: Make, count: int, *, room: int, kept: int) -> Iterator[Chunks]:
    """Give a function that yields the records of make(start, room) for each start, in order.

    make is called in one of `count` processes. They are forked, so that it can be any function,
    and die with the process that started them. room: bytes of memory, shared by all, that a chunk
    may fill. kept: chunks whose values the caller still uses when it takes the next one; a value
    in an older one's room is overwritten.
    """
    ahead = AHEAD * count
    slots = kept + 1 + ahead
    memory = mmap.mmap(-1, max(1, slots * room))
    cv2_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # a forked process has none of OpenCV's threads, and would wait for them
    pool = ProcessPoolExecutor(
        count, multiprocessing.get_context("fork"), _begin, (make, memory, os.getpid())
    )
    view = memoryview(memory)

    def taken(at: int, future: Future[Chunk]) -> tuple[Pairs, list[str]]:
        chunk, values = future.result(), []
        for value in chunk.values:
            if isinstance(value, int):
                value, at = view[at : at + value], at + value
            values.append(value)
        return list(zip(chunk.keys, values, strict=True)), chunk.left_out

    def chunks(starts: Iterable[int]) -> Iterator[tuple[Pairs, list[str]]]:
        pending = deque()
        for number, start in enumerate(starts):
            at = number % slots * room
            pending.append((at, pool.submit(_make_into, start, at, room)))
            if len(pending) > ahead:
                yield taken(*pending.popleft())
        while pending:
            yield taken(*pending.popleft())

    try:
        pool.submit(int).result()  # all are forked with the first task
        yield chunks
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(cv2_threads)


def _begin(make: Make, memory: mmap.mmap, parent: int) -> None:
    global _make, _memory
    _make, _memory = make, memory
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _make_into(start: int, at: int, room: int) -> Chunk:
    return _make(start, memoryview(_memory)[at : at + room])
