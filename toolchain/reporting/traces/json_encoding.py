"""Events of a trace as JSON, "Trace Event Format" of the Chromium project: for scripts, for
chrome://tracing, and as Perfetto reads it, too. Times are microseconds with three decimals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from edgefusion.toolchain.reporting.traces.events import Begin, Count, End, Event, Process, Track


def json_of(events: Iterable[Event]) -> Iterator[str]:
    """The text of a trace, a line an event."""
    yield '{"displayTimeUnit":"ns","traceEvents":['
    separator = "\n"
    tracks: dict[int, Track] = {}
    for event in events:
        if isinstance(event, Track):
            tracks[event.number] = event
        for row in _rows(event, tracks):
            yield separator + row
            separator = ",\n"
    yield "\n]}\n"


def _rows(event: Event, tracks: dict[int, Track]) -> Iterator[str]:
    match event:
        case Process():
            yield _meta("process_name", event.number, 0, name=event.name)
            yield _meta("process_sort_index", event.number, 0, sort_index=event.number)
        case Track() if not event.unit:
            yield _meta("thread_name", event.process, event.number, name=event.name)
            yield _meta("thread_sort_index", event.process, event.number, sort_index=event.rank)
        case Begin():
            at = _at(tracks[event.track], event.time_ns)
            arguments = json.dumps(event.arguments, separators=(",", ":"))
            name, category = json.dumps(event.name), json.dumps(event.category)
            yield f'{{"ph":"B",{at},"name":{name},"cat":{category},"args":{arguments}}}'
            for phase, flows in (('"f","bp":"e"', event.arriving), ('"s"', event.leaving)):
                for flow in flows:
                    yield f'{{"ph":{phase},{at},"name":"dependency","cat":"flow","id":{flow}}}'
        case End():
            yield f'{{"ph":"E",{_at(tracks[event.track], event.time_ns)}}}'
        case Count():
            track = tracks[event.track]
            name, value = json.dumps(track.name), json.dumps({track.unit: event.value})
            yield f'{{"ph":"C",{_at(track, event.time_ns)},"name":{name},"args":{value}}}'


def _at(track: Track, time_ns: int) -> str:
    """Which process and thread, and when."""
    us, ns = divmod(time_ns, 1000)
    return f'"pid":{track.process},"tid":{track.number},"ts":{us}.{ns:03d}'


def _meta(what: str, process: int, thread: int, **arguments: Any) -> str:
    row = {"ph": "M", "pid": process, "tid": thread, "name": what, "args": arguments}
    return json.dumps(row, separators=(",", ":"))
