"""How long a group takes when engines overlap, found by emitting and scheduling it.

Estimates add up what engines do (``lowering.cost``). Where buffers are few, or one long transfer
holds up short ones, what counts is who waits for whom, and that is the scheduler's to say. It costs
milliseconds a group, so searches ask for the most promising ones alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import numpy as np

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.schedule.dependences import dependence_graph
from edgefusion.compiler.schedule.list_schedule import list_schedule
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.work import durations_ps

_MOST_INSTRUCTIONS = 40_000
"""Instructions that are scheduled for one question, all of its candidates together."""

T = TypeVar("T")


class Rehearsed(NamedTuple):
    """How long some instructions take by themselves, in picoseconds: from the first to the end of
    the last; and from the busiest engine's first to the end of its last, which is what they add to
    the time of others, as the rest is done while these have the busiest engine."""

    total_ps: int
    busiest_ps: int


def rehearse_best(
    candidates: Iterable[T],
    estimated_ps: Callable[[T], float],
    instructions: Callable[[T], int],
    time_ps: Callable[[T], int],
) -> list[tuple[T, int]]:
    """The times, in picoseconds, of those ``candidates`` that may be the fastest: the best by their
    estimates, which tend to be low, for as long as these are below the best time so far. At least
    one is timed. ``instructions`` are those that ``time_ps`` schedules."""
    timed: list[tuple[T, int]] = []
    best_ps, budget = float("inf"), _MOST_INSTRUCTIONS
    for candidate in sorted(candidates, key=lambda c: (estimated_ps(c), instructions(c))):
        budget -= instructions(candidate)
        if estimated_ps(candidate) > best_ps or (timed and budget < 0):
            break
        found = time_ps(candidate)
        timed.append((candidate, found))
        best_ps = min(best_ps, found)
    return timed


def rehearse(emit: Callable[[Emitter], None], machine: Machine, schedule: Schedule) -> Rehearsed:
    """How long what ``emit`` emits takes, alone on the machine. Raises DoesNotFitError."""
    builder = ProgramBuilder("rehearsal", machine.name, schedule.name)
    emitter = Emitter(builder, machine, schedule, dry=False)
    emit(emitter)
    program = builder.build()
    graph = dependence_graph(emitter.accesses)
    durations = durations_ps(program, machine)
    kinds = program.columns.engine
    issue = list_schedule(graph, kinds, durations, machine)
    busiest = int(np.bincount(kinds, weights=durations).argmax())
    begin_ps, end_ps = issue.spans_ps[busiest].tolist()
    return Rehearsed(issue.end_ps, end_ps - begin_ps)
