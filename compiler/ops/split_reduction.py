"""Reductions in parts: what matmuls and convolutions that accumulate over parts of K share.

A tile of the result keeps its sums in SRAM, INT64 or FP32, while parts of the operands pass. Every
part but the last writes raw sums or adds to them, the last one goes on from them to the rounded
result, bias and scales included: the bits are those of one instruction (``docs/arithmetic.md``).
Such tilings have a ``depth``, the size of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgefusion.compiler.lowering.emitter import Buffer, Emitter
from edgefusion.compiler.lowering.rule import Tiling
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.tensor import statistics_dtype
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.isa import EngineKind, Opcode
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.specification import Attrs


def depths(machine: Machine, total: int, taps: int = 1) -> list[int]:
    """Candidate sizes of a part of a reduction over ``total`` channels under ``taps``, largest
    first: the whole, and even divisions about as deep as keeps the array busy while sums drain.

    A part costs the drain of all sums and their way back. Deeper parts than a multiple of that
    gain nothing, shallower ones than a fraction are left to ``least_depth``.
    """
    granule = least_depth(machine, total)
    balance = 2 * machine.tensor_macs_per_cycle / machine.tensor_drain_bytes_per_cycle / taps
    parts = {max(1, round(total / (balance * times))) for times in (2.0, 1.0, 0.5, 0.25)}
    sizes = {min(total, -(-total // (count * granule)) * granule) for count in parts}
    return sorted({total, *sizes}, reverse=True)


def least_depth(machine: Machine, total: int) -> int:
    """A part of one granule of the array."""
    return min(total, machine.tensor_granularity_k)


def doublings(total: int, multiple: int) -> list[int]:
    """The whole and all powers of two times ``multiple`` below, largest first."""
    sizes = [multiple << i for i in range(total.bit_length()) if multiple << i < total]
    return [total, *reversed(sizes)]


@dataclass(slots=True)
class Sums:
    """The sums of a result tile, if its reduction has more parts than one."""

    buffer: Buffer | None
    tensor: int

    @classmethod
    def reserve(cls, e: Emitter, elements: int, y: View, tensor: int, *, parts: int) -> Sums:
        """SRAM for the sums of ``elements`` of ``y``, which are those of ``tensor``. One copy keeps
        one tensor engine at work: it ends a tile before it begins the next."""
        if parts == 1:
            return cls(None, tensor)
        streamed = e.machine.engines[EngineKind.TENSOR] > 1
        dtype = statistics_dtype(y.operand.dtype)
        return cls(e.buffer("sums", elements, dtype, streamed=streamed), tensor)

    def begin(self) -> None:
        """Move on to the next tile."""
        if self.buffer is not None:
            self.buffer.next()

    def add(
        self,
        e: Emitter,
        opcode: Opcode,
        shape: tuple[int, ...],
        inputs: Sequence[View],
        attrs: Attrs,
        *,
        first: bool,
    ) -> None:
        """One part that is not the last."""
        assert self.buffer is not None
        total = self.buffer.view(self.tensor, shape)
        e.tensor(opcode, total, inputs, (("accumulate", int(not first)), ("bias", 0), *attrs))

    def finish(
        self,
        e: Emitter,
        opcode: Opcode,
        tile: View,
        inputs: Sequence[View],
        attrs: Attrs,
        *,
        first: bool,
    ) -> None:
        """The last part into ``tile``; ``inputs`` and ``attrs`` are those of a whole product."""
        if first:
            e.tensor(opcode, tile, inputs, attrs)
            return
        assert self.buffer is not None
        total = self.buffer.view(self.tensor, tile.shape)
        e.tensor(opcode, tile, [*inputs, total], (*attrs, ("sums", 1)))


class Largest:
    """Picks from families of tilings, each from the largest size to the smallest, the first that
    fits SRAM with one copy of each streamed buffer, with two, and with as many as engines can use.

    A tiling whose every extent is at least that of another moves fewer bytes in fewer instructions,
    so a family comes with its other ``extents``, and is left out where one before it that is as
    large in these reached the same size.
    """

    def __init__(self, machine: Machine, reserve: Callable[[Emitter, Tiling], object]) -> None:
        schedule = schedule_named("mlt")
        self._emitter = Emitter.of_costs(machine, schedule)
        self._reserve = reserve
        units = max(machine.engines[kind] for kind in (EngineKind.TENSOR, EngineKind.VECTOR))
        self._slots = sorted({1, 2, 1 + units})
        self._best: list[tuple[int, str, tuple[int, ...]]] = []
        self.found = False

    def of(self, candidates: Sequence[Tiling], keep: str, *extents: int) -> Iterator[Tiling]:
        """Those of ``candidates``, whose first values are their sizes."""
        at, chosen = 0, []
        for slots in self._slots:
            while at < len(candidates) and not self._fits(candidates[at], slots):
                at += 1
            if at == len(candidates):
                break
            reached = (int(candidates[at].values[0][1]), *extents)
            if not self._is_matched(slots, keep, reached):
                self._best.append((slots, keep, reached))
                chosen.append(candidates[at])
        self.found = self.found or bool(chosen)
        yield from dict.fromkeys(chosen)

    def _fits(self, candidate: Tiling, slots: int) -> bool:
        self._emitter.begin(0, "fit", slots)
        try:
            self._reserve(self._emitter, candidate)
        except DoesNotFitError:
            return False
        return True

    def _is_matched(self, slots: int, keep: str, reached: tuple[int, ...]) -> bool:
        return any(
            (slots, keep) == (other_slots, other_keep)
            and all(mine <= theirs for mine, theirs in zip(reached, others, strict=True))
            for other_slots, other_keep, others in self._best
        )
