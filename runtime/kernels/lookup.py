"""Tables of activation functions, and their evaluation on all 65,536 INT16 inputs.

A table has 513 entries: f at the ends of 512 equal intervals, in steps of 2^-8 of an output step,
interpolated linearly and rounded once. Wide inputs have nested tables, each over a quarter of the
range of the one before, until the innermost spans at most +-4: the functions bend near zero. Those
that bend the more the nearer to zero have tables down to intervals of two steps. As an input has 16
bits, the executor keeps the result for every input and looks it up.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.functions import UNARY, Unary
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.kernels.exact_tables import tables_are_exact
from edgefusion.runtime.kernels.requantize import ratio

INTERVALS = 512
GUARD_BITS = 8
INNER_RANGE = 4.0
ENTRY_LIMIT = 1 << 30
_RANGE_STEP_BITS = 2


def tabulated_function(name: str) -> Unary:
    """The function called ``name``. Raises UnsupportedOpError if there is none."""
    if name not in UNARY:
        raise UnsupportedOpError(
            f"The vector engine has no table for '{name}'. It has: {', '.join(sorted(UNARY))}."
        )
    return UNARY[name]


def lookup(name: str, x_scale: float, y_scale: float) -> Array:
    """f(x * x_scale) / y_scale for x = -32768..32767, INT16 [65536], by the specified tables.

    Index it with x + 32768.
    """
    make = _rounded if tables_are_exact() else _tabulated
    return make(name, x_scale, y_scale)


@lru_cache(maxsize=128)
def _rounded(name: str, x_scale: float, y_scale: float) -> Array:
    """Without tables: the function in float64, rounded once."""
    x = np.arange(-32768, 32768, dtype=np.float64) * x_scale
    values = tabulated_function(name).real(x) / ratio(y_scale, 1.0)
    made: Array = np.clip(np.floor(values + 0.5), -32768, 32767).astype(np.int16)
    made.flags.writeable = False
    return made


@lru_cache(maxsize=128)
def _tabulated(name: str, x_scale: float, y_scale: float) -> Array:
    x = np.arange(-32768, 32768, dtype=np.int64)
    made: Array = np.empty(len(x), np.int16)
    for bits in segment_bits(name, x_scale):
        inside = slice(32768 - (1 << (bits + 8)), 32768 + (1 << (bits + 8)))
        made[inside] = _interpolate(x[inside], table(name, x_scale, y_scale, bits), bits)
    made.flags.writeable = False
    return made


def segment_bits(name: str, x_scale: float) -> tuple[int, ...]:
    """log2 of the interval of each nested table of a function, in input steps: 7 spans the whole
    range."""
    inner = 0.0 if tabulated_function(name).bends_at_zero else INNER_RANGE
    bits = 7
    made = [bits]
    while (1 << (bits + 8)) * ratio(x_scale, 1.0) > inner and bits >= _RANGE_STEP_BITS + 1:
        bits -= _RANGE_STEP_BITS
        made.append(bits)
    return tuple(made)


def table(name: str, x_scale: float, y_scale: float, bits: int) -> Array:
    """The 513 entries over |x| <= 2^(bits + 8), int64: round(f * 2^8 / y_scale), half up."""
    at = np.arange(-INTERVALS // 2, INTERVALS // 2 + 1, dtype=np.float64) * 2.0**bits * x_scale
    entries = tabulated_function(name).real(at) * (2.0**GUARD_BITS / ratio(y_scale, 1.0))
    made: Array = np.floor(np.clip(entries, -ENTRY_LIMIT, ENTRY_LIMIT) + 0.5).astype(np.int64)
    return made


def _interpolate(x: Array, entries: Array, bits: int) -> Array:
    index = (x >> bits) + INTERVALS // 2
    weight = x & ((1 << bits) - 1)
    down = bits + GUARD_BITS
    left, right = entries[index], entries[index + 1]
    value = ((left << bits) + (right - left) * weight + (1 << (down - 1))) >> down
    made: Array = np.clip(value, -32768, 32767).astype(np.int16)
    return made
