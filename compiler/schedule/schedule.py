"""The schedules: how lowering places data and orders engines. Their names are an interface."""

from __future__ import annotations

from dataclasses import dataclass

from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import Machine


@dataclass(frozen=True, slots=True)
class Grouping:
    """What groups may do: keep tensors in SRAM whole (``resident``) or roll them by in stripes
    (``rolling``), compute twice at statistics (``repeats``), take a product and its gated unit as
    one (``gated``); and whether what depends on constant inputs alone comes first, so that it need
    not run again (``once``). They are all on, but to see what each is worth."""

    resident: bool = True
    rolling: bool = True
    repeats: bool = True
    gated: bool = True
    once: bool = True


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a schedule allows.

    ``attention_in_sram``: scores stay in SRAM (model-level tiling) instead of being spilled.
    ``overlap``: all engines run at the same time, ordered by data alone, over ``slots`` copies of
    each streamed tile buffer; without it every instruction waits for the one before, on one engine
    of each kind. ``groups``: tensors may stay in SRAM between ops.
    """

    name: str
    attention_in_sram: bool
    overlap: bool
    slots: int
    groups: Grouping | None = None

    def slot_counts(self, machine: Machine) -> range:
        """How many copies of streamed tile buffers are worth trying: ``slots`` keep one computing
        engine at work, each further one needs a copy of its own."""
        further = max(machine.engines[kind] for kind in _COMPUTING) - 1
        return range(self.slots, self.slots + 1 + (further if self.overlap else 0))

    def idle_engines(self, machine: Machine) -> str:
        """The engines of ``machine`` that this schedule leaves idle, in words; '' for none."""
        extra = {kind: count - 1 for kind, count in machine.engines.items() if count > 1}
        if self.overlap or not extra:
            return ""
        return ", ".join(f"{n} of {n + 1} {kind.name.lower()} engines" for kind, n in extra.items())


_COMPUTING = (EngineKind.TENSOR, EngineKind.VECTOR)
SCHEDULES = (
    Schedule("serial", attention_in_sram=False, overlap=False, slots=1),
    Schedule("mlt", attention_in_sram=True, overlap=False, slots=1),
    Schedule("pipelined", attention_in_sram=True, overlap=True, slots=2, groups=Grouping()),
)


def schedule_named(name: str) -> Schedule:
    """The schedule called ``name``; UsageError for any other name."""
    for schedule in SCHEDULES:
        if schedule.name == name:
            return schedule
    known = ", ".join(schedule.name for schedule in SCHEDULES)
    raise UsageError(f"unknown schedule {name!r}; expected one of {known}")
