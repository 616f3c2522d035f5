"""What a program remembers of its fusion groups, and the lower limits of time that reports show."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.validation import Whole

STATISTICS = ":statistics"
"""Ends the name of an op that runs for the statistics of a group alone: all of the group's do, and
run again for their values in the next."""


@dataclass(frozen=True, slots=True)
class EngineBounds:
    """The least time, in picoseconds, that all engines of a kind need together."""

    tensor_ps: Whole = 0
    vector_ps: Whole = 0
    dma_ps: Whole = 0
    host_ps: Whole = 0

    @property
    def ps(self) -> int:
        """What no schedule can beat, as engines run at the same time: the largest."""
        return max(self.tensor_ps, self.vector_ps, self.dma_ps, self.host_ps)

    def of(self, kind: EngineKind) -> int:
        """The least time of one kind of engine."""
        least: int = getattr(self, f"{kind.name.lower()}_ps")
        return least

    def __add__(self, other: EngineBounds) -> EngineBounds:
        return EngineBounds(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: EngineBounds) -> EngineBounds:
        return EngineBounds(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


NO_BOUNDS = EngineBounds()
"""Of what needs no engine, or is not known."""


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """Ops that run as one loop, whose records name the group by its place in the program's table.

    ``stripe`` counts the rows of the last op's result that a step computes, 0 where the op runs by
    itself. By number of the program's tensors: those ``rolling`` through SRAM in stripes, those
    ``kept`` (stored in DRAM although they are read from SRAM), and those ``shared`` (loaded in
    stripes for several readers, or for rows that stripes have in common). ``apart_bytes`` is what
    its ops have to move at least where each goes from DRAM to DRAM; ``border`` says why the op that
    follows is in another group. The loop runs ``sweeps`` times, each for another part of the
    channels of the last op's result.
    """

    stripe: Whole = 0
    rolling: tuple[Whole, ...] = ()
    kept: tuple[Whole, ...] = ()
    shared: tuple[Whole, ...] = ()
    apart_bytes: Whole = 0
    border: str = ""
    sweeps: Whole = 1


@dataclass(frozen=True, slots=True)
class ResidentRecord:
    """A tensor, by number, that lies whole in SRAM from the end of group ``first`` to the end of
    group ``last``: ``nbytes``. ``alone``: DRAM has no copy of it. It takes the place of the tensor
    ``over``, if there is one, which group ``first`` reads last."""

    tensor: Whole
    first: Whole
    last: Whole
    nbytes: Whole
    alone: bool = False
    over: Whole | None = None


@dataclass(frozen=True, slots=True)
class OnceRecord:
    """The beginning of a program that need not run again while its constant inputs are the same:
    so many ``instructions``, ``ops`` and ``groups``; ``fused`` and ``chain_ps`` are its limits, as
    those of a program are."""

    instructions: Whole
    ops: Whole
    groups: Whole
    fused: EngineBounds = NO_BOUNDS
    chain_ps: Whole = 0
