"""Which of two is better, and how sure that is: paired bootstrap over seeds and prompts.

Both drew the same prompts from the same noise, in each of several whole repetitions of the
experiment. Resampling repetitions and, in each, prompts (Efron and Tibshirani, 1993, chapter 8)
gives an interval that counts both sources of chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_RESAMPLES = 4000
_LEVEL_PERCENT = (2.5, 97.5)

Scores = Sequence[Sequence[float]]
"""A list a repetition, a score a prompt."""


@dataclass(frozen=True, slots=True)
class Difference:
    """First minus second, its 95 % interval, and the share of resamples above 0."""

    mean: float
    low: float
    high: float
    share_above: float

    def negated(self) -> Difference:
        """Second minus first."""
        return Difference(-self.mean, -self.high, -self.low, 1 - self.share_above)


def paired_difference(first: Scores, second: Scores, seed: int = 0) -> Difference:
    """Compare scores by repetition and prompt. Raises ValueError for lists of other lengths."""
    apart = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if apart.ndim != 2 or np.shape(first) != np.shape(second):
        raise ValueError(f"scores do not pair: {np.shape(first)} and {np.shape(second)}")
    rng = np.random.default_rng(seed)
    means = np.array([_resampled(apart, rng) for _ in range(_RESAMPLES)])
    return _difference(float(apart.mean()), means)


def resampled_difference(first: Scores, second: Scores, seed: int = 0) -> Difference:
    """The same of a statistic that is no mean over prompts: each repetition's list has its value
    of all prompts, then those of resamples of the prompts, which are the same on both sides."""
    apart = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    repetitions, values = apart.shape
    rng = np.random.default_rng(seed)
    size = (_RESAMPLES, repetitions)
    drawn = apart[rng.integers(repetitions, size=size), rng.integers(1, values, size=size)]
    return _difference(float(apart[:, 0].mean()), drawn.mean(1))


def _difference(mean: float, resampled: npt.NDArray[np.float64]) -> Difference:
    low, high = np.percentile(resampled, _LEVEL_PERCENT)
    return Difference(mean, float(low), float(high), float((resampled > 0).mean()))


def _resampled(apart: npt.NDArray[np.float64], rng: np.random.Generator) -> float:
    repetitions, prompts = apart.shape
    rows = rng.integers(repetitions, size=(repetitions, 1))
    return float(apart[rows, rng.integers(prompts, size=apart.shape)].mean())
