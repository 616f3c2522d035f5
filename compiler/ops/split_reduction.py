"""Reductions in parts: what products that accumulate over parts of K share, matmuls and convolutions.

A tile of the result keeps its sums in SRAM, INT64 or FP32, while parts of the operands pass. Every
part but the last writes raw sums or adds to them, the last one goes on from them to the rounded
result, bias and scales included: the bits are those of one instruction (``docs/arithmetic.md``).
Such tilings have a ``depth``, the size of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgefusion.compiler.lowering.emitter import Buffer, Emitter, View
from edgefusion.compiler.lowering.rule import Tiling
from edgefusion.compiler.network.tensor import statistics_dtype
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.isa import EngineKind, Opcode
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.specification import Attrs

_PARTS = (1, 2, 4, 8, 16, 32)
"""A part costs the drain of all sums and their way back: few large parts are best."""


def is_split(t: Tiling) -> bool:
    """Whether the tiling says how deep the parts of the reduction are."""
    return any(name == "depth" for name, _ in t.values)


def depths(total: int, granule: int) -> list[int]:
    """Candidate sizes of a part of a reduction of ``total``, largest first: the whole, even
    divisions in multiples of ``granule``, and one granule."""
    sizes = {min(total, -(-total // (parts * granule)) * granule) for parts in _PARTS}
    return sorted({total, min(total, granule), *sizes}, reverse=True)


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


def largest_fitting(
    machine: Machine,
    candidates: Sequence[Tiling],
    reserve: Callable[[Emitter, Tiling], object],
) -> Iterator[Tiling]:
    """Of ``candidates``, from the largest to the smallest, the first that fits SRAM with one copy
    of each streamed buffer, with two, and with as many as the engines can use.

    Among tilings that differ in nothing else, larger ones move fewer bytes in fewer instructions.
    """
    schedule = schedule_named("mlt")
    e = Emitter(ProgramBuilder("fit", machine.name, schedule.name), machine, schedule, dry=True)
    at = 0
    found: list[int] = []
    units = max(machine.engines[kind] for kind in (EngineKind.TENSOR, EngineKind.VECTOR))
    for slots in sorted({1, 2, 1 + units}):
        while at < len(candidates):
            e.begin(0, "fit", slots)
            try:
                reserve(e, candidates[at])
            except DoesNotFitError:
                at += 1
                continue
            found.append(at)
            break
    yield from (candidates[index] for index in dict.fromkeys(found))
