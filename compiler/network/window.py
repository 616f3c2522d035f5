"""Windows: which elements of an input a range of the output needs along one axis.

A convolution's window slides; a slice's has a stride and an offset; that of an element-wise op is
the element itself. Stripes, halos and untouched bytes all follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Span(NamedTuple):
    """``[start, start + size)`` along one axis, in elements."""

    start: int
    size: int

    @property
    def stop(self) -> int:
        """First element behind it."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Source:
    """What a span of the output reads: ``span`` of the input, and the padding around it.

    ``phase`` is where the window starts within the first upsampled element of the span.
    """

    span: Span
    pad_before: int
    pad_after: int
    phase: int


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window: output i reads ``kernel`` elements from i * stride - pad, ``dilation``
    apart, of an input that has ``extent`` elements once each is repeated ``upsample`` times."""

    extent: int
    kernel: int = 1
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    upsample: int = 1

    @property
    def reach(self) -> int:
        """Elements from the first to the last that one output reads."""
        return (self.kernel - 1) * self.dilation + 1

    def source(self, span: Span) -> Source:
        """The input elements that outputs ``span`` need."""
        low = span.start * self.stride - self.pad
        high = (span.stop - 1) * self.stride - self.pad + self.reach
        inner_low, inner_high = max(low, 0), min(high, self.extent)
        start = inner_low // self.upsample
        stop = -(-inner_high // self.upsample)
        phase = inner_low - start * self.upsample
        return Source(Span(start, stop - start), inner_low - low, high - inner_high, phase)

    def fresh(self, span: Span, size: int) -> int:
        """How many of the elements that ``span`` needs the span of ``size`` before it does not."""
        needed = self.source(span).span
        if span.start == 0:
            return needed.size
        before = self.source(Span(span.start - size, size)).span
        return min(needed.size, needed.stop - before.stop)

    def largest(self, size: int) -> int:
        """Most elements that any span of ``size`` outputs needs."""
        elements = (size - 1) * self.stride + self.reach
        return min(-(-elements // self.upsample) + 1, -(-self.extent // self.upsample))

    def touched(self, size: int) -> int:
        """How many input elements ``size`` outputs from 0 on read between them."""
        taps = range(-self.pad, self.kernel * self.dilation - self.pad, self.dilation)
        read = {output * self.stride + tap for output in range(size) for tap in taps}
        return len({at // self.upsample for at in read if 0 <= at < self.extent})
