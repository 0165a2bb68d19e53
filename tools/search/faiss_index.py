"""FAISS binary indexes over packed codes: flat (exact), IVF, and multi-index hashing.

FAISS gets codes padded with zero bits to widths that it compares fast (48 bits as 64: 4 times the
speed of 48), which changes no distance.
"""

from pathlib import Path

import faiss
import numpy as np

from tools.run.failure import Failure

KINDS = ("flat", "ivf", "multihash")
FAST_BYTES = (4, 8, 16, 32, 64)  # code sizes that FAISS has compiled comparisons for
FLAT_ROWS = 20_000_000  # an exact scan of so many takes some 30 ms (make bench-search)
MAP_FLAGS = {"flat": faiss.IO_FLAG_MMAP_IFC, "ivf": faiss.IO_FLAG_MMAP}
CHUNK_BITS = 16  # of a code that one hash table of multihash is over


def build(kind: str, codes: np.ndarray, bits: int) -> faiss.IndexBinary:
    """Return a FAISS index of a kind over packed codes (N, ceil(bits/8)) uint8."""
    database = padded(codes, bits)
    width = 8 * database.shape[1]
    if kind == "flat":
        index = faiss.index_binary_factory(width, "BFlat")
    elif kind == "multihash":
        tables = max(1, bits // CHUNK_BITS)
        index = faiss.index_binary_factory(width, f"BHash{tables}x{bits // tables}")
        index.nflip = 1
    else:
        # Lists are learnt on distinct codes: equal ones can't be told apart by any number of lists.
        random = np.random.default_rng(0)
        lists = max(1, 2 ** round(np.log2(len(database)) / 2))
        sample = database[random.permutation(len(database))[: 128 * lists]]
        distinct = np.unique(sample.view(f"V{sample.shape[1]}")).view(np.uint8)
        distinct = random.permutation(distinct.reshape(-1, sample.shape[1]))
        lists = max(1, min(lists, len(distinct) // 40))
        index = faiss.index_binary_factory(width, f"BIVF{lists}")
        index.cp.max_points_per_centroid = 64
        index.train(distinct)
        index.nprobe = max(1, lists // 16)
    index.add(database)
    return _counting(index)


def padded(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return packed codes (N, ceil(bits/8)) uint8 as FAISS gets them: (N, width) uint8."""
    size = -(-bits // 8)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != size:
        raise ValueError(f"{codes.dtype} {codes.shape} is no array of packed codes of {bits} bits")
    width = next((fast for fast in FAST_BYTES if fast >= size), -(-size // 8) * 8)
    return np.pad(codes, ((0, 0), (0, width - size)))


def read(path: Path, mapped: str = "") -> faiss.IndexBinary:
    """Read a FAISS index into memory, to change it; or by memory map, to search it.

    mapped: the kind of an index that is to be mapped. FAISS maps codes of flat ones and lists of
    IVF ones, and reads multihash's tables. Raise FileNotFoundError, or Failure for a damaged file.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        return _counting(faiss.read_index_binary(str(path), MAP_FLAGS.get(mapped, 0)))
    except (RuntimeError, MemoryError):
        raise Failure(f"{path} is damaged: remove it and run 'make index' again") from None


def _counting(index: faiss.IndexBinary) -> faiss.IndexBinary:
    """Let a flat index find its results by counting, not by a heap: ties then stand in row order.

    FAISS 1.15.1's IVF index finds nothing in that mode.
    """
    if isinstance(index, faiss.IndexBinaryFlat):
        index.use_heap = False
    return index
