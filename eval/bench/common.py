"""What the benchmarks share: codes to measure on, and a child process to measure in."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

ROWS_PER_PIECE = 8192
CENTRE_SEED = 0


def clustered_pieces(
    rows: int, bits: int, classes: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield bits (n, bits) bool and labels (n,) int32 in pieces, `rows` rows in all.

    As learned codes do, most lie at or near the centre of their class, so that many tie, and a
    few stray far: each row has its own share of flipped bits. Centres are the same for any seed.
    """
    centres = np.random.default_rng(CENTRE_SEED).random((classes, bits)) < 0.5
    random = np.random.default_rng(seed)
    for start in range(0, rows, ROWS_PER_PIECE):
        size = min(ROWS_PER_PIECE, rows - start)
        labels = random.integers(classes, size=size, dtype=np.int32)
        flipped = random.random((size, bits)) < random.beta(0.3, 5, size=(size, 1))
        yield centres[labels] ^ flipped, labels


def clustered_codes(rows: int, bits: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return packed codes (rows, ceil(bits/8)) uint8 and labels (rows,) of `clustered_pieces`."""
    pieces = list(clustered_pieces(rows, bits, classes, seed))
    codes = np.concatenate([np.packbits(piece, axis=1) for piece, _ in pieces])
    return codes, np.concatenate([labels for _, labels in pieces])


def in_child(function: Callable, *arguments: object) -> tuple[object, float]:
    """Return `function(*arguments)` of a fresh process, and that process's peak memory in MB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(sender, function, arguments))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        child.join()


def _report(sender: Connection, function: Callable, arguments: tuple) -> None:
    result = function(*arguments)
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in status if line.startswith("VmHWM")]
    sender.send((result, int(peak) / 1024))
