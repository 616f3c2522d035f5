"""Traces obey their format's schema and rules, and say what the timeline and the ledger say."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgefusion.runtime.errors import DoesNotFitError, UsageError
from edgefusion.runtime.file_kinds import Kind, kind_of
from edgefusion.runtime.simulator import STALL_REASONS
from edgefusion.toolchain.profiling.profile import Profile
from edgefusion.toolchain.reporting.sram_occupancy import sram_occupancy
from edgefusion.toolchain.reporting.traces import slices
from edgefusion.toolchain.reporting.traces.write import write_trace_file
from tests.lowering_cases import attention_case, conv_case
from tests.profile_cases import MACHINE, block, profile_of
from tests.trace_reader import ReadTrace, Slice, read_json, read_protobuf

SMALL = MACHINE.with_values(name="small", sram_bytes=40 << 10, dma_engines=2)
"""With so little SRAM there are many tiles, which wait for each other, and two channels for the
bus."""


@pytest.fixture(scope="module")
def profile() -> Profile:
    networks = {"text_encoder": block(), "unet": attention_case(), "vae_decoder": conv_case()}
    return profile_of(networks, machine=SMALL, steps=3)


@pytest.fixture(scope="module", params=[("t.pftrace", read_protobuf), ("t.json", read_json)])
def trace(
    request: pytest.FixtureRequest, profile: Profile, tmp_path_factory: pytest.TempPathFactory
) -> ReadTrace:
    name, read = request.param
    path = tmp_path_factory.mktemp("trace") / name
    write_trace_file(path, profile)
    found: ReadTrace = read(path)
    return found


def _on(trace: ReadTrace, process: str, category: str) -> list[Slice]:
    return [each for each in trace.of(category) if each.track[0] == process]


def test_evaluations_follow_each_other(profile: Profile, trace: ReadTrace) -> None:
    (image,) = trace.of("image")
    assert image.name == "one image"
    evaluations = trace.of("evaluation")
    assert [each.name for each in evaluations] == [
        "text_encoder",
        *(f"unet step {n} of 3" for n in (1, 2, 3)),
        "vae_decoder",
    ]
    ends = [each.end_ns for each in evaluations]
    assert [each.begin_ns for each in evaluations] == [0, *ends[:-1]]
    assert ends[-1] == image.end_ns == profile.latency.total_ps // 1000
    assert all(each.parent is image for each in evaluations)


def test_instructions_are_the_timeline(profile: Profile, trace: ReadTrace) -> None:
    offset_ps = 0
    for component in profile.components:
        timeline, size = component.timeline, len(component.program)
        slices = _on(trace, component.name, "instruction")
        seen: Counter[int] = Counter()
        for each in slices:
            index = each.arguments["instruction"]
            start = offset_ps + seen[index] * timeline.total_ps
            seen[index] += 1
            assert each.begin_ns == (start + int(timeline.start_ps[index])) // 1000
            assert each.end_ns == (start + int(timeline.end_ps[index])) // 1000
            assert each.track[1] == timeline.engines[timeline.engine[index]]
        assert seen == dict.fromkeys(range(size), component.evaluations)
        offset_ps += component.evaluations * timeline.total_ps


def test_instructions_lie_in_runs_of_their_op(profile: Profile, trace: ReadTrace) -> None:
    for component in profile.components:
        for each in _on(trace, component.name, "instruction"):
            run = each.parent
            assert run is not None
            assert run.category == "op"
            assert run.arguments["op"] == each.arguments["op"]
            assert run.begin_ns <= each.begin_ns <= each.end_ns <= run.end_ns
        runs = _on(trace, component.name, "op")
        instructions = sum(run.arguments["instructions"] for run in runs)
        assert instructions == component.evaluations * len(component.program)
    up = next(run for run in trace.of("op") if run.arguments["module"] == "ff.up")
    assert up.name == "matmul ff.up"
    assert up.arguments["origin"] == "onnx_node_1"
    assert up.arguments["tile"] == profile.ops[0].latency.tile


def test_busy_time_is_the_timelines(profile: Profile, trace: ReadTrace) -> None:
    """Instructions less what they waited for the bus, to a nanosecond an edge."""
    for component in profile.components:
        timeline = component.timeline
        for engine, busy_ps in zip(timeline.engines, timeline.busy_ps.tolist(), strict=True):
            track = component.name, engine
            mine = [each for each in trace.slices if each.track == track]
            instructions = [each for each in mine if each.category == "instruction"]
            waits = [each for each in mine if each.name == "waits for bus"]
            length = sum(each.end_ns - each.begin_ns for each in instructions)
            length -= sum(each.end_ns - each.begin_ns for each in waits)
            edges = len(instructions) + len(waits)
            assert length == pytest.approx(component.evaluations * busy_ps / 1000, abs=edges)


def test_waits_are_the_timelines_stalls(profile: Profile, trace: ReadTrace) -> None:
    names = set()
    for component in profile.components:
        timeline = component.timeline
        for engine, stalls in zip(timeline.engines, timeline.stall_ps.tolist(), strict=True):
            for reason, stall_ps in zip(STALL_REASONS, stalls, strict=True):
                waits = [
                    each
                    for each in trace.of("wait")
                    if each.track == (component.name, engine) and each.name == f"waits for {reason}"
                ]
                names |= {each.name for each in waits}
                length = sum(each.end_ns - each.begin_ns for each in waits)
                expected = component.evaluations * stall_ps / 1000
                assert length == pytest.approx(expected, abs=len(waits)), (engine, reason)
    assert names >= {"waits for dma", "waits for tensor", "waits for semaphore", "waits for bus"}


def test_waits_name_the_dependency_that_decided(profile: Profile, trace: ReadTrace) -> None:
    for component in profile.components:
        timeline, c = component.timeline, component.program.columns
        for each in _on(trace, component.name, "wait"):
            index = each.arguments["instruction"]
            if each.name == "waits for bus":
                assert each.parent is not None
                assert each.parent.arguments["instruction"] == index
                continue
            on = each.arguments["waits_for_instruction"]
            assert on in c.deps[c.dep_begin[index] : c.dep_begin[index + 1]]
            if each.name != "waits for semaphore":
                kind = timeline.kinds[timeline.engine[on]]
                assert each.name == f"waits for {kind.name.lower()}"


def test_transfers_carry_the_ledgers_bytes(profile: Profile, trace: ReadTrace) -> None:
    for component in profile.components:
        by_cause: Counter[str] = Counter()
        by_tensor: Counter[str] = Counter()
        for each in _on(trace, component.name, "instruction"):
            arguments = each.arguments
            again = arguments.get("reread_bytes", 0)
            if "bytes" in arguments:
                by_cause[arguments["cause"]] += arguments["bytes"] - again
                by_cause["reread"] += again
                by_tensor[arguments["tensor"]] += arguments["bytes"]
        n, ledger = component.evaluations, component.ledger
        assert +by_cause == {row.name: n * row.bytes for row in ledger.by("cause")}
        assert by_tensor == {row.name: n * row.bytes for row in ledger.by("tensor")}
        moved = sum(run.arguments.get("bytes", 0) for run in _on(trace, component.name, "op"))
        assert moved == n * ledger.total().bytes
    assert any("reread_bytes" in each.arguments for each in trace.slices)


def test_products_carry_their_macs(profile: Profile, trace: ReadTrace) -> None:
    macs = sum(each.arguments.get("macs", 0) for each in _on(trace, "text_encoder", "instruction"))
    assert macs == sum(op.macs for op in profile.ops if op.component == "text_encoder")


def test_flows_are_the_dependencies_between_engines(profile: Profile, trace: ReadTrace) -> None:
    found: Counter[tuple[str, int, int]] = Counter()
    for source, target in trace.flows():
        assert source.end_ns <= target.begin_ns
        assert source.track[0] == target.track[0]
        ends = source.arguments["instruction"], target.arguments["instruction"]
        found[source.track[0], *ends] += 1
    expected: Counter[tuple[str, int, int]] = Counter()
    for component in profile.components:
        c, engine = component.program.columns, component.timeline.engine
        for index in range(len(component.program)):
            for on in c.deps[c.dep_begin[index] : c.dep_begin[index + 1]].tolist():
                if engine[on] != engine[index]:
                    expected[component.name, on, index] += component.evaluations
    assert found == expected
    assert len(found) > 100


def test_counters_are_the_bytes_and_the_buffers(profile: Profile, trace: ReadTrace) -> None:
    for (process, name), values in trace.counters.items():
        component = profile.component(process)
        times = [time for time, _ in values]
        assert times == sorted(times)
        assert values[-1][1] == 0
        if name == "SRAM in use":
            peak = sram_occupancy(component).peak_bytes
            assert max(value for _, value in values) == peak
            assert 0 < peak <= component.program.sram_bytes <= SMALL.sram_bytes
            continue
        assert trace.units[process, name] == "GB/s"
        area = sum(value * (after - time) for (time, value), (after, _) in pairwise(values))
        moved = component.evaluations * component.ledger.total().bytes
        assert area == pytest.approx(moved, rel=0.02)  # edges are whole nanoseconds
        assert max(value for _, value in values) <= 1.001 * SMALL.dma_bandwidth_bytes_per_s / 1e9
    assert len(trace.counters) == 3 * len(profile.components)


def test_tracks_are_engines_in_a_process_a_component(profile: Profile, trace: ReadTrace) -> None:
    engines = profile.components[0].timeline.engines
    counters = set(trace.counters)
    rows = [track for track in trace.tracks if track not in counters]
    assert rows == [
        ("case.npub", "evaluations"),
        *((component.name, engine) for component in profile.components for engine in engines),
    ]


@pytest.mark.parametrize("name", ["t.pftrace", "t.json"])
def test_the_same_profile_gives_the_same_bytes(
    name: str, profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_trace_file(tmp_path / name, profile)
    monkeypatch.setattr(slices, "_CHUNK", 7)
    write_trace_file(tmp_path / f"again_{name}", profile)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again_{name}").read_bytes()


def test_no_time_at_all_keeps_nesting_and_order(tmp_path: Path) -> None:
    """Everything within a few nanoseconds: slices without length, all times alike."""
    fast = {
        "clock_hz": 1e15,
        "dma_bandwidth_bytes_per_s": 1e18,
        "dma_setup_ns": 0,
        "semaphore_ns": 0,
    }
    profile = profile_of({"unet": attention_case()}, machine=SMALL.with_values(**fast))
    assert profile.latency.total_ps < 200_000
    for name, read in (("t.pftrace", read_protobuf), ("t.json", read_json)):
        write_trace_file(tmp_path / name, profile)
        found: ReadTrace = read(tmp_path / name)
        assert len(found.flows()) > 50
        assert any(each.begin_ns == each.end_ns for each in found.of("instruction"))


def test_a_trace_is_not_written_over_another_kind(profile: Profile, tmp_path: Path) -> None:
    place = tmp_path / "t.pftrace"
    write_trace_file(place, profile)
    assert kind_of(place) is Kind.TRACE
    write_trace_file(place, profile)  # again, over itself
    (tmp_path / "notes.pftrace").write_text("\n# Notes\n")
    with pytest.raises(UsageError, match="a Perfetto trace would be written"):
        write_trace_file(tmp_path / "notes.pftrace", profile)
    place.rename(tmp_path / "t.json")
    with pytest.raises(UsageError, match="is a Perfetto trace, and JSON would be written"):
        write_trace_file(tmp_path / "t.json", profile)


def test_a_full_disk_is_told(profile: Profile) -> None:
    with pytest.raises(DoesNotFitError, match="the disk is full"):
        write_trace_file(Path("/dev/full"), profile)


def test_progress_names_evaluations(profile: Profile, tmp_path: Path) -> None:
    said: list[str] = []
    write_trace_file(tmp_path / "t.pftrace", profile, said.append)
    assert said[1] == "tracing unet step 1 of 3"
    assert np.unique(said).size == 5
