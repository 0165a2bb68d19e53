"""Hamming distances of packed codes: XOR and popcount on 64-bit words."""

from collections.abc import Callable, Sequence

import numpy as np
from llvmlite.ir import IRBuilder, Value
from numba.core import types
from numba.core.base import BaseContext
from numba.core.typing import Context, Signature
from numba.extending import intrinsic

from eval.compiled import compiled


def code_words(codes: np.ndarray) -> np.ndarray:
    """Return packed codes (N, bytes) uint8 as word planes (ceil(bytes/8), N) uint64, zero-padded.

    Plane w holds word w of every code, so that a scan reads memory in order.
    """
    rows, width = codes.shape
    padded = np.zeros((rows, -(-width // 8) * 8), np.uint8)
    padded[:, :width] = codes
    return np.ascontiguousarray(padded.view(np.uint64).T)


def distinct_codes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the distinct codes among rows (N, bytes) uint8, in ascending order.

    Returns three int64 arrays: the first row with each, the place of every row's code among them,
    and how many rows have each.
    """
    scalars = np.ascontiguousarray(codes).view(f"V{codes.shape[1]}")[:, 0]
    _, first, place, count = np.unique(
        scalars, return_index=True, return_inverse=True, return_counts=True
    )
    return first, place, count


def constant_bits(codes: np.ndarray, bits: int) -> int:
    """Return how many bits are the same in all packed codes (N, ceil(bits / 8)) uint8."""
    same = np.bitwise_and.reduce(codes) | ~np.bitwise_or.reduce(codes)
    return int(np.unpackbits(same, count=bits).sum())


def nearest(query: np.ndarray, database: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and distances of the `count` nearest codes, ties in database order.

    query: (bytes,) uint8; database: (N, bytes) uint8. Returns two (min(count, N),) int64 arrays.
    """
    words = code_words(database)
    distances = np.empty(len(database), np.uint16)
    hamming_distances(code_words(query[None])[:, 0], words, 0, len(database), distances)
    rows = np.argsort(distances, kind="stable")[:count]
    return rows, distances[rows].astype(np.int64)


@intrinsic
def popcount(typing_context: Context, word: types.Type) -> tuple[Signature, Callable]:
    """Count the set bits of a uint64, in compiled code: by one instruction, or a vector of them."""

    def generate(
        context: BaseContext, builder: IRBuilder, signature: Signature, arguments: Sequence[Value]
    ) -> Value:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@compiled
def hamming_distances(
    query: np.ndarray,
    database: np.ndarray,
    start: int,
    stop: int,
    distances: np.ndarray,
) -> None:
    """Write the distances of `query` to rows start..stop-1 into `distances` (uint16).

    query: (words,) uint64; database: (words, N) uint64, as `code_words` gives them.
    """
    rows = stop - start
    word = query[0]
    plane = database[0, start:stop]
    for i in range(rows):
        distances[i] = popcount(word ^ plane[i])
    for w in range(1, len(query)):
        word = query[w]
        plane = database[w, start:stop]
        for i in range(rows):
            distances[i] += popcount(word ^ plane[i])
