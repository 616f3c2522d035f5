"""How close values are to a reference: signal to noise of tensors, PSNR of images, in decibels.

Powers are sums of squares in float64, so that parts of a tensor add up to the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log10
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Noise:
    """Sums of squares of a reference (``signal``) and of the difference from it (``noise``)."""

    signal: float = 0.0
    noise: float = 0.0
    count: int = 0

    def __add__(self, other: Noise) -> Noise:
        return Noise(self.signal + other.signal, self.noise + other.noise, self.count + other.count)

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise ratio; infinity for no noise, minus infinity for NaN."""
        return decibels(self.signal, self.noise)


NO_NOISE = Noise()


def noise_of(reference: Array, found: Array) -> Noise:
    """The signal of ``reference`` and the noise of ``found``, arrays of one shape."""
    if reference.shape != found.shape:
        raise ValueError(f"expected one shape, got {reference.shape} and {found.shape}")
    exact = reference.astype(np.float64).reshape(-1)
    difference = found.astype(np.float64).reshape(-1) - exact
    return Noise(float(exact @ exact), float(difference @ difference), exact.size)


def decibels(signal: float, noise: float) -> float:
    """10 log10 of the ratio of two powers; infinity for no noise, minus infinity where the ratio
    is zero or not a number."""
    if noise == 0:
        return inf
    ratio = signal / noise
    return 10 * log10(ratio) if ratio > 0 else -inf


def sqnr_db(reference: Array, found: Array) -> float:
    """Signal to quantization noise ratio of ``found``."""
    return noise_of(reference, found).sqnr_db


def psnr_db(reference: Array, found: Array, peak: float = 255.0) -> float:
    """Peak signal to noise ratio of images whose values span ``peak``."""
    difference = noise_of(reference, found)
    return decibels(peak * peak * difference.count, difference.noise)
