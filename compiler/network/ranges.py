"""Measured ranges, and remarks on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

LEVELS = 32767
"""Steps from zero to the largest value of an INT16 activation."""

RemarkKind = Literal["accumulator", "divisor", "mask", "outlier", "table", "zero"]


@dataclass(frozen=True, slots=True)
class Range:
    """The lowest and the highest value that a tensor takes."""

    low: float
    high: float

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(-self.low, self.high)


Ranges = Mapping[str, Range]


@dataclass(frozen=True, slots=True)
class ScaleRemark:
    """What is unsafe, about which tensor, and why."""

    kind: RemarkKind
    tensor: str
    reason: str

    def __str__(self) -> str:
        """As it is printed."""
        return f"{self.kind} '{self.tensor}': {self.reason}"
