"""What the elements of a tensor stand for: whether, and how, a stored number becomes a real one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from edgefusion.runtime.errors import InputError


class Meaning(IntEnum):
    """How an element relates to a real number. Stored by value: add members at the end."""

    PLAIN = 0
    """It is that number (FP16, FP32, integers from outside), or another tensor or the instruction
    says (weights with a scale a channel, biases, statistics)."""

    UNCALIBRATED = 1
    """An INT16 activation whose scale is not known yet: it has latency but no values."""

    SCALED = 2
    """A number of steps of one scale: an INT16 activation."""

    ROW_NORMALISED = 3
    """An exponential: the real value is element / sum of its row (docs/arithmetic.md, 5)."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The meaning of a tensor's elements; ``scale``, positive and finite, where they are SCALED.

    Raises InputError for a scale that is anything else.
    """

    meaning: Meaning
    scale: float | None = None

    def __post_init__(self) -> None:
        if (self.scale is not None) != (self.meaning is Meaning.SCALED):
            raise InputError(f"expected a scale for scaled numbers alone, found {self}")
        if self.scale is not None and not 0.0 < self.scale < math.inf:
            raise InputError(f"expected a scale that is positive and finite, found {self.scale}")

    @property
    def step(self) -> float:
        """The real value of one step. Raises InputError where the numbers have no scale."""
        if self.scale is None:
            raise InputError(
                "an integer tensor has no scale (its numbers are "
                f"{self.meaning.name.lower()}); calibrate the bundle first"
            )
        return self.scale


PLAIN = Numbers(Meaning.PLAIN)
UNCALIBRATED = Numbers(Meaning.UNCALIBRATED)
ROW_NORMALISED = Numbers(Meaning.ROW_NORMALISED)


def steps_of(scale: float) -> Numbers:
    """Numbers of steps of ``scale``."""
    return Numbers(Meaning.SCALED, scale)
