"""Numba's compiler as this package uses it: without the GIL, cached on disk where one can write."""

from collections.abc import Callable

import numba


def compiled(function: Callable) -> Callable:
    """Compile `function` on its first call; threads may run it at once.

    Numba keeps the machine code beside the source, or in the user's cache folder where the
    checkout is read-only. Where neither can be written, each process compiles anew. Set-up fills
    the cache again after any change (eval/compile_kernels.py).
    """
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)
