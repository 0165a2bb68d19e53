"""Numba's compiler as this package uses it: without the GIL, cached on disk where one can write."""

from collections.abc import Callable

import numba


def compiled(function: Callable) -> Callable:
    """Compile `function` on its first call; threads may run it at once.

    Numba keeps the machine code beside the source, or in the user's cache folder where the
    checkout is read-only. Where neither can be written, each process compiles anew. It compiles
    again when a function's own module changes, but not when another one that it calls from does:
    after a change to eval/hamming.py, delete the cache.
    """
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)
