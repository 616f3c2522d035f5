"""Convolutions whose results outside oracles have computed; operands are made from a counter.

The generator is splitmix64 (Steele, Lea and Flood, 2014), not numpy's, whose streams may change:
committed vectors hold results alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ConvCase:
    """One convolution without padding. ``kind``: random, extreme (ends of the ranges) or small."""

    name: str
    height: int
    width: int
    channels_in: int
    channels_out: int
    kernel: int
    kind: str
    x_scale: float
    y_scale: float


CASES = (
    ConvCase("plain", 6, 7, 16, 24, 3, "random", 1e-3, 3e-2),
    ConvCase("one_pixel", 4, 4, 320, 40, 1, "random", 7.3e-4, 1.1e-2),
    ConvCase("odd", 5, 5, 7, 5, 3, "random", 3.1e-3, 0.5),
    ConvCase("saturating", 5, 6, 64, 16, 3, "random", 1e-2, 1e-3),
    ConvCase("k2880", 5, 5, 320, 16, 3, "random", 1e-3, 5e-2),
    ConvCase("k5760", 4, 5, 640, 16, 3, "random", 1e-3, 9e-2),
    ConvCase("k11520", 4, 4, 1280, 16, 3, "random", 1e-3, 0.13),
    ConvCase("k11520_extreme", 4, 4, 1280, 8, 3, "extreme", 1e-3, 11.0),
    ConvCase("extreme_saturating", 4, 4, 640, 8, 3, "extreme", 1e-3, 1.0),
    ConvCase("small_accumulators", 8, 8, 4, 16, 1, "small", 1e-3, 1.4e-4),
    ConvCase("large_factor", 4, 4, 8, 8, 1, "small", 1.0, 1e-3),
    ConvCase("tiny_factor", 4, 4, 512, 8, 1, "random", 1e-6, 0.01),
)


def stream(seed: int, count: int) -> Array:
    """``count`` pseudo-random uint64."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed) * np.uint64(0xD1B54A32D192ED03)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        made: Array = z ^ (z >> np.uint64(31))
    return made


def integers(seed: int, shape: tuple[int, ...], low: int, high: int) -> Array:
    """Integers in [low, high], int64."""
    values = stream(seed, int(np.prod(shape))) >> np.uint64(11)
    made: Array = (values % np.uint64(high - low + 1)).astype(np.int64) + low
    return made.reshape(shape)


def operands(case: ConvCase) -> tuple[Array, Array, Array, Array]:
    """(x [h,w,ci] INT16, w [co,kh,kw,ci] INT8, bias int64 [co], w_scales float32 [co])."""
    seed = 16 * CASES.index(case)
    x_shape = (case.height, case.width, case.channels_in)
    w_shape = (case.channels_out, case.kernel, case.kernel, case.channels_in)
    if case.kind == "extreme":
        # Whole channels of one sign, so that sums reach the ends of the accumulator.
        x = np.where(integers(seed, (case.height, case.width, 1), 0, 1) > 0, 32767, -32768)
        x = np.broadcast_to(x, x_shape)
        w = np.where(integers(seed + 1, (case.channels_out, 1, 1, 1), 0, 1) > 0, 127, -127)
        w = np.broadcast_to(w, w_shape)
    else:
        limit = 32767 if case.kind == "random" else 9
        x = integers(seed, x_shape, -limit - 1, limit)
        w = integers(seed + 1, w_shape, -127, 127)
    bias = integers(seed + 2, (case.channels_out,), -(10**8), 10**8)
    if case.kind == "small":
        bias //= 10**6
    scales = integers(seed + 3, (case.channels_out,), 1000, 9999).astype(np.float32) / 1e6
    return x.astype(np.int16), w.astype(np.int8), bias, scales.astype(np.float32)


def real_multipliers(case: ConvCase, w_scales: Array) -> Array:
    """s_x * s_w / s_y, float64 [co], of scales rounded to float32 as LiteRT's files hold them."""
    x_scale, y_scale = float(np.float32(case.x_scale)), float(np.float32(case.y_scale))
    made: Array = x_scale * w_scales.astype(np.float64) / y_scale
    return made
