"""Compiles loops over rows to machine code on all cores.

The same wrapper as ``runtime.compiled`` with threads: numba shares the iterations of ``prange``
among the cores. Only what a kernel runs once per instruction is compiled so; the scalar functions
inside use ``compiled`` and are inlined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Loop = TypeVar("Loop", bound=Callable[..., object])


def parallel(loop: Loop) -> Loop:
    """The same function as machine code, its ``prange`` loops on all cores."""
    try:
        return cast(Loop, numba.njit(cache=True, nogil=True, parallel=True)(loop))
    except RuntimeError:  # no folder to cache in
        return cast(Loop, numba.njit(nogil=True, parallel=True)(loop))
