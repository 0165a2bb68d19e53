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
from itertools import chain
from typing import NamedTuple

import cv2

Pairs = list[tuple[bytes | memoryview, bytes | memoryview]]  # keys and values
AHEAD = 3  # chunks a process that are made or wait to be taken
PR_SET_PDEATHSIG = 1


class Chunk(NamedTuple):
    """Records that are made together, and a sentence on each picture that was left out.

    records: keys and values; or the size in bytes of each, where they stand in the chunk's room,
    key, value, key, value, ..., from its beginning on.
    """

    records: list[tuple[bytes, bytes]] | list[tuple[int, int]]
    left_out: list[str]


class Made(NamedTuple):
    """A chunk as it is taken: records that can be read, and in how few pieces they stand."""

    pairs: Pairs
    pieces: Iterable[bytes | memoryview]  # key, value, key, value, ..., without gaps
    left_out: list[str]


Make = Callable[[int, memoryview], Chunk]  # of a chunk's start, and its room
_make: Make
_memory: mmap.mmap


@contextmanager
def makers(
    make: Make, count: int, *, room: int, kept: int
) -> Iterator[Callable[[Iterable[int]], Iterator[Made]]]:
    """Give a function that yields what make(start, room) made for each start, in order.

    make is called in one of `count` processes. They are forked, so that it can be any function,
    and die with the process that started them. room: bytes of memory, shared by all, that a chunk
    may fill; 0 where records are handed over one by one instead. kept: chunks whose records the
    caller still uses when it takes the next one; older ones are overwritten.
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

    def taken(begin: int, future: Future[Chunk]) -> Made:
        records, left_out = future.result()
        if not room:
            return Made(records, chain.from_iterable(records), left_out)
        pairs, at = [], begin
        for key, value in records:
            pairs.append((view[at : at + key], view[at + key : at + key + value]))
            at += key + value
        return Made(pairs, [view[begin:at]], left_out)

    def chunks(starts: Iterable[int]) -> Iterator[Made]:
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
