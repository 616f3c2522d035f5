"""The events of a trace: what a timeline viewer shows of a profile, one image, all evaluations.

One process a component, one track an engine; on it a slice for each run of instructions of one op,
within it a slice an instruction, and what the engine waited for as slices between them ("waits for
dma"; the bus, within the transfer that waits). Dependencies between engines are flows. Counters
hold the DRAM's bandwidth and the SRAM in use; a process above all lists the evaluations.

Viewers count whole nanoseconds: every time is rounded down. That keeps all orders, so slices stay
nested and flows point forward, but a slice may have no length, and a duration is exact to a
nanosecond only. Slices that begin or end in one nanosecond are told apart by their order here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import merge
from itertools import count

import numpy as np

from edgefusion.runtime.latency import total_label
from edgefusion.runtime.program import I64
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.profiling.profile import ComponentProfile, Profile
from edgefusion.toolchain.reporting.traces.counters import Curve, curves_of
from edgefusion.toolchain.reporting.traces.slices import Arguments, Step, Steps

PS_PER_NS = 1000


@dataclass(frozen=True, slots=True)
class Process:
    """A group of tracks; ``number`` is unique among processes and tracks, and above 0."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Track:
    """A row of a process, ``rank`` says where. It is a counter if it has a ``unit``."""

    number: int
    process: int
    name: str
    rank: int
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Begin:
    """A slice begins. ``leaving`` and ``arriving`` number the flows that begin and end with it."""

    track: int
    time_ns: int
    name: str
    category: str
    arguments: Arguments
    leaving: tuple[int, ...] = ()
    arriving: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """The innermost open slice of a track ends."""

    track: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Count:
    """A counter has a value from here on."""

    track: int
    time_ns: int
    value: int | float


Event = Process | Track | Begin | End | Count


def events_of(profile: Profile, progress: Say = silent) -> Iterator[Event]:
    """All events of ``profile``: processes and tracks before what is on them, the rest by time."""
    numbers = count(1)
    overview = Process(next(numbers), profile.label)
    row = Track(next(numbers), overview.number, "evaluations", 0)
    yield overview
    yield row
    names = [component.name for component in profile.components]
    yield Begin(row.number, 0, total_label(names), "image", _about(profile))
    offset_ps, flow = 0, 1
    for component in profile.components:
        steps = Steps(component, profile.scenario.machine)
        curves = curves_of(component, steps.waits)
        process = Process(next(numbers), component.name)
        yield process
        tracks = [
            Track(next(numbers), process.number, name, rank)
            for rank, name in enumerate(component.timeline.engines)
        ]
        counters = [
            Track(next(numbers), process.number, curve.name, len(tracks) + rank, curve.unit)
            for rank, curve in enumerate(curves)
        ]
        yield from tracks
        yield from counters
        for evaluation in range(component.evaluations):
            name = _evaluation_name(component, evaluation, profile.scenario.steps)
            progress(f"tracing {name}")
            yield Begin(row.number, _ns(offset_ps), name, "evaluation", _of(component, evaluation))
            yield from merge(
                _slices(steps, tracks, offset_ps, flow),
                *(
                    _counts(curve, track.number, offset_ps)
                    for curve, track in zip(curves, counters, strict=True)
                ),
                key=lambda event: event.time_ns,
            )
            offset_ps += component.latency.latency_ps
            flow += steps.flows
            yield End(row.number, _ns(offset_ps))
    yield End(row.number, _ns(offset_ps))


def _slices(
    steps: Steps, tracks: list[Track], offset_ps: int, first_flow: int
) -> Iterator[Begin | End]:
    for step in steps:
        track, time_ns = tracks[step.engine].number, _ns(offset_ps + step.time_ps)
        if step.name is None:
            yield End(track, time_ns)
        else:
            yield _begin(step, step.name, track, time_ns, first_flow)


def _begin(step: Step, name: str, track: int, time_ns: int, first_flow: int) -> Begin:
    return Begin(
        track,
        time_ns,
        name,
        step.category,
        step.arguments,
        tuple(first_flow + flow for flow in step.leaving),
        tuple(first_flow + flow for flow in step.arriving),
    )


def _counts(curve: Curve, track: int, offset_ps: int) -> Iterator[Count]:
    """Of several values within a nanosecond, the last; values that do not change are left out."""
    times: I64 = (offset_ps + curve.time_ps) // PS_PER_NS
    last = np.ones(len(times), np.bool_)
    last[:-1] = times[1:] != times[:-1]
    kept: float | None = None
    for time_ns, value in zip(times[last].tolist(), curve.value[last].tolist(), strict=True):
        if value != kept:
            yield Count(track, time_ns, value)
        kept = value


def _evaluation_name(component: ComponentProfile, evaluation: int, steps: int) -> str:
    if component.evaluations == 1:
        return component.name
    each = "step" if component.evaluations == steps else "run"
    return f"{component.name} {each} {evaluation + 1} of {component.evaluations}"


def _about(profile: Profile) -> Mapping[str, str | int]:
    scenario = profile.scenario
    return {
        "bundle": profile.label,
        "target": scenario.machine.name,
        "schedule": scenario.schedule,
        "steps": scenario.steps,
        "latency_ps": profile.latency.total_ps,
    }


def _of(component: ComponentProfile, evaluation: int) -> Mapping[str, str | int]:
    latency = component.latency
    return {
        "component": component.name,
        "evaluation": evaluation + 1,
        "evaluations": component.evaluations,
        "latency_ps": latency.latency_ps,
        "dram_read_bytes": latency.dram_read_bytes,
        "dram_write_bytes": latency.dram_write_bytes,
    }


def _ns(ps: int) -> int:
    return ps // PS_PER_NS
