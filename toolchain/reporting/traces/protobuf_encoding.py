"""Events of a trace as Perfetto's protobuf: a ``Trace``, packet after packet.

Names, categories and texts are interned: written once, with a number that later packets give. The
packets are one sequence, whose first one clears what a reader knew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    CounterDescriptor,
    TracePacket,
    TrackDescriptor,
    TrackEvent,
)

from edgefusion.toolchain.reporting.traces.counters import BYTES
from edgefusion.toolchain.reporting.traces.events import Begin, Count, End, Event, Process, Track

_PACKET = b"\x0a"
"""Tag of ``Trace.packet``: field 1, with a length."""
_SEQUENCE = 1


def protobuf_of(events: Iterable[Event]) -> Iterator[bytes]:
    """The bytes of a trace, a packet at a time."""
    texts = _Interned()
    for number, event in enumerate(events):
        packet = TracePacket(trusted_packet_sequence_id=_SEQUENCE)
        packet.sequence_flags = TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        if not number:
            packet.first_packet_on_sequence = True
            packet.sequence_flags |= TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        _fill(packet, event, texts)
        content = packet.SerializeToString()
        yield _PACKET + _varint(len(content)) + content


def _fill(packet: Any, event: Event, texts: _Interned) -> None:
    match event:
        case Process():
            track = packet.track_descriptor
            track.uuid = event.number
            track.process.pid = event.number
            track.process.process_name = event.name
            track.child_ordering = TrackDescriptor.EXPLICIT
        case Track():
            _describe(packet.track_descriptor, event)
        case Begin():
            packet.timestamp = event.time_ns
            _begin(packet, event, texts)
        case End():
            packet.timestamp = event.time_ns
            packet.track_event.type = TrackEvent.TYPE_SLICE_END
            packet.track_event.track_uuid = event.track
        case Count():
            packet.timestamp = event.time_ns
            packet.track_event.type = TrackEvent.TYPE_COUNTER
            packet.track_event.track_uuid = event.track
            if isinstance(event.value, int):
                packet.track_event.counter_value = event.value
            else:
                packet.track_event.double_counter_value = event.value


def _describe(track: Any, event: Track) -> None:
    track.uuid = event.number
    track.parent_uuid = event.process
    track.name = event.name
    track.sibling_order_rank = event.rank
    if event.unit == BYTES:
        track.counter.unit = CounterDescriptor.UNIT_SIZE_BYTES
    elif event.unit:
        track.counter.unit_name = event.unit


def _begin(packet: Any, event: Begin, texts: _Interned) -> None:
    made = packet.track_event
    made.type = TrackEvent.TYPE_SLICE_BEGIN
    made.track_uuid = event.track
    made.name_iid = texts.number(packet, "event_names", event.name)
    made.category_iids.append(texts.number(packet, "event_categories", event.category))
    made.flow_ids.extend(event.leaving)
    made.terminating_flow_ids.extend(event.arriving)
    for name, value in event.arguments.items():
        argument = made.debug_annotations.add()
        argument.name_iid = texts.number(packet, "debug_annotation_names", name)
        if isinstance(value, int):
            argument.int_value = value
        else:
            table = "debug_annotation_string_values"
            argument.string_value_iid = texts.number(packet, table, value)


class _Interned:
    """Texts that readers have been told, by table."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, packet: Any, table: str, text: str) -> int:
        """The number of ``text``, which ``packet`` tells if none has before."""
        known = self._numbers.get((table, text))
        if known is None:
            known = self._numbers[table, text] = len(self._numbers) + 1
            entry = getattr(packet.interned_data, table).add(iid=known)
            if table == "debug_annotation_string_values":
                entry.str = text.encode()
            else:
                entry.name = text
        return known


def _varint(value: int) -> bytes:
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    content.append(value)
    return bytes(content)
