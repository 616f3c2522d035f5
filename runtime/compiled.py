"""Compiles a loop over integer columns to machine code, and keeps it between processes.

The simulator's loops carry time from one instruction to the next, which numpy cannot express; numba
can, at tens of millions of rows a second. The compiled code is cached beside the source, or in the
user's cache folder; where neither can be written, every process compiles once (about a second).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """The same function as machine code."""
    try:
        return cast(Loop, numba.njit(cache=True)(loop))
    except RuntimeError:  # no folder to cache in
        return cast(Loop, numba.njit(loop))
