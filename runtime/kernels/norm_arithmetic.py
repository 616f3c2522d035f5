"""The integers of the norms: variance, reciprocal square root, channel constants.

All sums are exact. A multiplier a channel is (gamma mantissa) * (1/sigma mantissa), 31 bits, and a
shift; docs/arithmetic.md, section 8, derives the widths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.kernels.requantize import Word, clamp16, ratio

VARIANCE_BITS = 8
BETA_BITS = 20

SEEDS: Array = np.floor(2.0**30 / np.sqrt((np.arange(256, 1024) + 0.5) / 1024) + 0.5).astype(
    np.int64
)
"""1/sqrt of mantissas in [1/4, 1) at 30 fractional bits: the first guess, exact to 2^-10."""


@dataclass(frozen=True, slots=True, eq=False)
class ChannelConstants:
    """gamma and beta of each channel in integers, int64 [c] each.

    gamma * sqrt(count * 2^8) / s_y = gamma * 2^(gamma_exponent - 31); beta / s_y = beta * 2^-20.
    """

    gamma: Array
    gamma_exponent: Array
    beta: Array


def channel_constants(
    gamma: Array, beta: Array | None, count: int, y_scale: float
) -> ChannelConstants:
    """Constants for normalisation over ``count`` elements into steps of ``y_scale``."""
    step = ratio(y_scale, 1.0)
    real = gamma.astype(np.float64) * np.sqrt(count * 2.0**VARIANCE_BITS) / step
    q, exponent = np.frexp(real)
    shift = np.zeros(len(gamma)) if beta is None else beta.astype(np.float64) / step
    limit = 2.0**20
    return ChannelConstants(
        np.floor(np.ldexp(q, 31) + 0.5).astype(np.int64),
        exponent.astype(np.int64),
        np.floor(np.clip(shift, -limit, limit) * 2.0**BETA_BITS + 0.5).astype(np.int64),
    )


def epsilon_term(epsilon: float, count: int, x_scale: float) -> int:
    """epsilon in the units of ``variance_sum``: count * 2^8 * epsilon / s_x^2, half up."""
    real = count * 2.0**VARIANCE_BITS * epsilon / ratio(x_scale, 1.0) ** 2
    return int(np.floor(min(real, 2.0**60) + 0.5))


@compiled
def variance_sum(total: Word, squares: Word, count: Word) -> Word:
    """count * variance * 2^8 from exact sums, rounded up; count <= 2^20.

    With total = q * count + rest, total^2 / count = q^2 * count + 2 * q * rest + rest^2 / count,
    and nothing exceeds 2^58.
    """
    q = total // count
    rest = total - q * count
    whole = (squares - q * q * count - 2 * q * rest) << 8
    return whole - ((rest * rest) << 8) // count


@compiled
def mean_fixed(total: Word, count: Word) -> Word:
    """The mean with 14 fractional bits, half up."""
    return ((total << 14) + (count >> 1)) // count


@compiled
def reciprocal_sqrt(value: Word, seeds: Array) -> tuple[Word, Word]:
    """(r, k): 1/sqrt(value) = r * 2^-30 * 2^-k with r in [2^30, 2^31]; value in [1, 2^62).

    The mantissa is shifted by whole pairs of bits to [2^60, 2^62); its top ten bits give the first
    guess, one Newton step r (3 - a r^2) / 2 makes it good to 2^-19.
    """
    k = 31
    mantissa = max(value, 1)
    while mantissa < (np.int64(1) << 60):
        mantissa <<= 2
        k -= 1
    guess = seeds[(mantissa >> 52) - 256]
    a = mantissa >> 32
    square = (guess * guess) >> 30
    rest = (np.int64(3) << 30) - ((a * square) >> 30)
    return (guess * rest) >> 31, k


@compiled
def scale_and_shift(x: Word, mean: Word, multiplier: Word, shift: Word, beta: Word) -> Word:
    """clamp((x - mean) * multiplier * 2^-shift + beta): mean has 14 fractional bits, beta 20.

    The product has at most 62 bits; 16 of them are dropped before beta is added.
    """
    product = (((x << 14) - mean) * multiplier) >> 16
    down = shift - 16
    if down > 40:
        product >>= min(down - 40, 63)
        down = 40
    elif down < 1:
        limit = np.int64(1) << 20
        product = min(max(product, -limit), limit) << min(1 - down, 40)
        down = 1
    offset = beta << (down - 20) if down >= 20 else beta >> (20 - down)
    return clamp16((product + offset + (np.int64(1) << (down - 1))) >> down)
