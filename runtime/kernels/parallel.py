"""Compiles loops over rows to machine code on all cores.

The same wrapper as ``runtime.compiled`` with threads: numba shares the iterations of ``prange``
among the cores. Only what a kernel runs once per instruction is compiled so; the scalar functions
inside use ``compiled`` and are inlined.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar, cast

import numba
from numba import config

# Threads spin for tenths of a millisecond between loops, not for the many that libgomp prefers,
# which take the cores from whoever could use them: on a busy machine 2.4 times the processor time
# of a step. A tenth of this leaves 11 % of two cores idle in a step of the full U-Net, this 4 %.
# Read once, at numba's start.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

SMALL_WORK = 1 << 16
"""Scalar operations that one core does in about the time it takes to wake another."""

CORES: int = getattr(config, "NUMBA_NUM_THREADS", 1)
"""How many share a loop."""

Loop = TypeVar("Loop", bound=Callable[..., object])


def parallel(loop: Loop) -> Loop:
    """The same function as machine code, its ``prange`` loops on all cores."""
    try:
        return cast(Loop, numba.njit(cache=True, nogil=True, parallel=True)(loop))
    except RuntimeError:  # no folder to cache in
        return cast(Loop, numba.njit(nogil=True, parallel=True)(loop))


def use_threads(operations: int) -> None:
    """Share the next loops among the cores only if they are worth it: waking costs microseconds."""
    numba.set_num_threads(CORES if operations > SMALL_WORK else 1)
