"""What calibration keeps of a tensor's values: extremes and a histogram of magnitudes.

Values stream through once and are gone. The histogram has logarithmic bins (128 an octave, 0.8 %
wide) in fixed places, so it needs no range in advance and parts can be added up in any order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.network.ranges import LEVELS
from edgefusion.runtime.compiled import compiled

Array = npt.NDArray[Any]

LOWEST_OCTAVE = -32
OCTAVES = 64
BINS_AN_OCTAVE = 128
"""The seven highest bits of a float32's mantissa."""

BINS = OCTAVES * BINS_AN_OCTAVE
_FIRST = (127 + LOWEST_OCTAVE) * BINS_AN_OCTAVE


@dataclass(slots=True)
class Statistics:
    """Extremes, count and histogram of all values seen; ``add`` takes more.

    Bin 0 also counts what is smaller than ``2**LOWEST_OCTAVE``, the last one what is larger than
    all bins; ``not_finite`` counts NaN and infinities, which are nowhere else.
    """

    low: float = np.inf
    high: float = -np.inf
    count: int = 0
    not_finite: int = 0
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: Array) -> None:
        """Take in float values of any shape."""
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        low, high, strange = _accumulate(flat, flat.view(np.int32), self.histogram, _FIRST)
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        self.count += flat.size
        self.not_finite += int(strange)

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(-self.low, self.high) if self.count > self.not_finite else 0.0

    def quantile(self, share: float) -> float:
        """A magnitude that ``share`` of the values do not exceed, up to 0.8 % too large."""
        total = np.cumsum(self.histogram)
        position = int(np.searchsorted(total, np.ceil(share * total[-1])))
        return min(float(_edges()[min(position, BINS - 1) + 1]), self.largest)

    def least_error(self) -> float:
        """The magnitude to clip at for the least mean square error of INT16 rounding.

        Error of a limit c: (c / LEVELS)^2 / 12 for what it keeps, the excess squared for the rest.
        """
        edges = _edges()
        centres = (edges[:-1] + edges[1:]) / 2
        used = np.flatnonzero(self.histogram)
        if not used.size or used[-1] == 0:
            return self.largest
        candidates = edges[max(int(used[-1]) - 4 * BINS_AN_OCTAVE, 0) : int(used[-1]) + 2]
        counts, values = self.histogram[used], centres[used]
        excess = np.maximum(values[None, :] - candidates[:, None], 0.0)
        clipped = (np.square(excess) * counts).sum(axis=1)
        rounding = np.square(candidates / LEVELS) / 12 * counts.sum()
        return min(float(candidates[np.argmin(clipped + rounding)]), self.largest)


def _edges() -> npt.NDArray[np.float64]:
    """Lower edges of all bins, and the upper edge of the last."""
    octave, step = np.divmod(np.arange(BINS + 1), BINS_AN_OCTAVE)
    edges: npt.NDArray[np.float64] = np.ldexp(1.0 + step / BINS_AN_OCTAVE, octave + LOWEST_OCTAVE)
    return edges


@compiled
def _accumulate(
    values: npt.NDArray[np.float32],
    bits: npt.NDArray[np.int32],
    histogram: npt.NDArray[np.int64],
    first: int,
) -> tuple[float, float, int]:
    """Count ``values`` into ``histogram``; the extremes, and how many are not finite."""
    low, high, strange = np.inf, -np.inf, 0
    last = histogram.size - 1
    for i in range(values.size):
        exponent = (bits[i] & 0x7FFFFFFF) >> 16
        if exponent >= 0x7F80:
            strange += 1
            continue
        value = values[i]
        if value < low:
            low = value
        if value > high:
            high = value
        histogram[min(max(exponent - first, 0), last)] += 1
    return low, high, strange
