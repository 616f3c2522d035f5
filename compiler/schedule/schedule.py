"""The schedules: how lowering places data and orders engines. Their names are an interface."""

from __future__ import annotations

from dataclasses import dataclass

from edgefusion.runtime.errors import UsageError


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a schedule allows.

    ``attention_in_sram``: scores stay in SRAM (model-level tiling) instead of being spilled.
    ``overlap``: engines run at the same time, ordered by data alone, over ``slots`` copies of each
    streamed tile buffer; without it every instruction waits for the one before.
    """

    name: str
    attention_in_sram: bool
    overlap: bool
    slots: int


SCHEDULES = (
    Schedule("serial", attention_in_sram=False, overlap=False, slots=1),
    Schedule("mlt", attention_in_sram=True, overlap=False, slots=1),
    Schedule("pipelined", attention_in_sram=True, overlap=True, slots=2),
)


def schedule_named(name: str) -> Schedule:
    """The schedule called ``name``; UsageError for any other name."""
    for schedule in SCHEDULES:
        if schedule.name == name:
            return schedule
    known = ", ".join(schedule.name for schedule in SCHEDULES)
    raise UsageError(f"unknown schedule {name!r}; expected one of {known}")
