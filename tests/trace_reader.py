"""Reads a trace as a viewer does, and refuses one that breaks the format's rules: for tests."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent


@dataclass
class Slice:
    """A slice that ended, with the path of its track."""

    track: tuple[str, str]
    name: str
    category: str
    depth: int
    begin_ns: int
    end_ns: int
    arguments: dict[str, Any]
    parent: Slice | None = None
    leaving: list[int] = field(default_factory=list)
    arriving: list[int] = field(default_factory=list)


@dataclass
class ReadTrace:
    """Slices in the order of their beginning, and counters, by process and track."""

    slices: list[Slice]
    counters: dict[tuple[str, str], list[tuple[int, float]]]
    units: dict[tuple[str, str], str]
    tracks: list[tuple[str, str]]

    def of(self, category: str) -> list[Slice]:
        return [each for each in self.slices if each.category == category]

    def flows(self) -> list[tuple[Slice, Slice]]:
        """Pairs of slices; each flow begins and ends exactly once, in this order."""
        begins: dict[int, Slice] = {}
        seen: set[int] = set()
        pairs = []
        for each in self.slices:
            pairs += [(begins.pop(flow), each) for flow in each.arriving]
            for flow in each.leaving:
                assert flow not in seen
                seen.add(flow)
                begins[flow] = each
        assert not begins
        return pairs


class _Stacks:
    """Open slices by track: begins and ends have to match, times not to go back."""

    def __init__(self) -> None:
        self.open: dict[Any, list[Slice]] = defaultdict(list)
        self.all: list[Slice] = []
        self.now = 0

    def at(self, time_ns: int) -> int:
        assert time_ns >= self.now
        self.now = time_ns
        return time_ns

    def begin(self, key: Any, made: Slice) -> None:
        stack = self.open[key]
        made.parent, made.depth = (stack[-1] if stack else None), len(stack)
        stack.append(made)
        self.all.append(made)

    def end(self, key: Any, time_ns: int) -> None:
        self.open[key].pop().end_ns = time_ns

    def finished(self) -> list[Slice]:
        assert not any(self.open.values())
        return self.all


def read_protobuf(path: Path) -> ReadTrace:
    content = path.read_bytes()
    trace = Trace.FromString(content)
    trace.DiscardUnknownFields()
    assert trace.SerializeToString() == content  # nothing in it that the schema does not know
    names: dict[str, dict[int, str]] = defaultdict(dict)
    tracks: dict[int, tuple[str, str]] = {}
    processes: dict[int, str] = {}
    units: dict[tuple[str, str], str] = {}
    counters: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    stacks = _Stacks()
    for number, packet in enumerate(trace.packet):
        assert packet.trusted_packet_sequence_id == 1
        cleared = packet.sequence_flags & TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        assert bool(cleared) == (number == 0)
        assert packet.sequence_flags & TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        for table, entries in packet.interned_data.ListFields():
            for entry in entries:
                assert entry.iid not in names[table.name]
                has_text = table.name == "debug_annotation_string_values"
                names[table.name][entry.iid] = entry.str.decode() if has_text else entry.name
        if packet.HasField("track_descriptor"):
            made = packet.track_descriptor
            assert made.uuid > 0
            assert made.uuid not in tracks | processes
            if made.HasField("process"):
                assert made.process.pid > 0
                processes[made.uuid] = made.process.process_name
            else:
                tracks[made.uuid] = processes[made.parent_uuid], made.name
                if made.HasField("counter"):
                    units[tracks[made.uuid]] = made.counter.unit_name or str(made.counter.unit)
            continue
        event = packet.track_event
        assert event.IsInitialized()
        track, time_ns = tracks[event.track_uuid], stacks.at(packet.timestamp)
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            (category,) = event.category_iids
            arguments = {
                names["debug_annotation_names"][each.name_iid]: each.int_value
                if each.HasField("int_value")
                else names["debug_annotation_string_values"][each.string_value_iid]
                for each in event.debug_annotations
            }
            made = Slice(
                track,
                names["event_names"][event.name_iid],
                names["event_categories"][category],
                *(0, time_ns, -1, arguments, None),
                list(event.flow_ids),
                list(event.terminating_flow_ids),
            )
            stacks.begin(track, made)
        elif event.type == TrackEvent.TYPE_SLICE_END:
            stacks.end(track, time_ns)
        else:
            assert event.type == TrackEvent.TYPE_COUNTER
            assert track in units
            whole = event.HasField("counter_value")
            value = event.counter_value if whole else event.double_counter_value
            counters[track].append((time_ns, value))
    return ReadTrace(stacks.finished(), dict(counters), units, list(tracks.values()))


def read_json(path: Path) -> ReadTrace:
    events = json.loads(path.read_text(), parse_float=Decimal)["traceEvents"]
    named: dict[tuple[str, int, int], str] = {
        (event["name"], event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if event["ph"] == "M" and "name" in event["args"]
    }
    tracks, units = [], {}
    counters: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    stacks = _Stacks()
    for event in events:
        if event["ph"] == "M":
            if event["name"] == "thread_name":
                process = named["process_name", event["pid"], 0]
                tracks.append((process, event["args"]["name"]))
            continue
        key = event["pid"], event["tid"]
        process, time_ns = named["process_name", key[0], 0], stacks.at(int(event["ts"] * 1000))
        if event["ph"] == "C":
            ((unit, value),) = event["args"].items()
            counters[process, event["name"]].append((time_ns, float(value)))
            units[process, event["name"]] = unit
        elif event["ph"] == "B":
            track = process, named[("thread_name", *key)]
            made = Slice(track, event["name"], event["cat"], 0, time_ns, -1, event["args"])
            stacks.begin(key, made)
        elif event["ph"] == "E":
            stacks.end(key, time_ns)
        else:
            innermost = stacks.open[key][-1]
            assert innermost.begin_ns == time_ns
            {"s": innermost.leaving, "f": innermost.arriving}[event["ph"]].append(event["id"])
    return ReadTrace(stacks.finished(), dict(counters), units, tracks)
