"""What a report says: sums add up, places are right, and what is computed is what is simulated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgefusion.runtime.isa import Space
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.profiling.profile import profile_bundle
from edgefusion.toolchain.profiling.scenario import scenario_of
from edgefusion.toolchain.reporting.documents import latency_document, traffic_document
from edgefusion.toolchain.reporting.page.document import comparison, report_document
from edgefusion.toolchain.reporting.page.provenance import parameter_rows, residuals, status_counts
from edgefusion.toolchain.reporting.page.timeline_runs import engine_times, timeline_runs
from edgefusion.toolchain.reporting.sram_occupancy import sram_occupancy
from tests.unit.toolchain.reporting.conftest import TOP, Reported


def test_documents_of_the_other_reports_are_in_it(pipelined: Reported) -> None:
    assert pipelined.document["latency"] == latency_document(pipelined.profile)
    assert pipelined.document["traffic"] == traffic_document(pipelined.profile)


def test_engines_spend_all_their_time(pipelined: Reported) -> None:
    (component,) = pipelined.profile.components
    rows = engine_times(component)
    assert len(rows) == len(component.timeline.engines)
    for row in rows:
        spent = row["busy_ms"] + sum(row["stalls_ms"].values()) + row["idle_ms"]
        assert spent == pytest.approx(component.latency.latency_ms)


def test_runs_hold_every_instruction_and_byte_in_order(serial: Reported) -> None:
    (component,) = serial.profile.components
    runs = timeline_runs(component)
    assert sum(runs["instructions"]) == len(component.program)
    assert sum(runs["bytes"]) == component.ledger.total().bytes
    start, end = np.array(runs["start_us"]), np.array(runs["end_us"])
    same = np.diff(runs["engine"]) == 0
    assert (start < end).all()
    assert (start[1:][same] >= end[:-1][same]).all()
    assert len(start) < len(component.program), "runs of one op are one"


def test_a_gap_or_another_op_ends_a_run(serial: Reported) -> None:
    (component,) = serial.profile.components
    timeline, op = component.timeline, component.program.columns.op
    runs = 0
    for engine in range(len(timeline.engines)):
        rows = np.flatnonzero(timeline.engine == engine)
        joined = (timeline.start_ps[rows][1:] == timeline.end_ps[rows][:-1]) & (
            op[rows][1:] == op[rows][:-1]
        )
        runs += len(rows) - int(joined.sum())
    assert len(timeline_runs(component)["start_us"]) == runs


def test_sram_in_use_fits_and_ends_empty(pipelined: Reported) -> None:
    (component,) = pipelined.profile.components
    found = sram_occupancy(component)
    largest = max(b.nbytes for b in component.program.buffers if b.space == Space.SRAM)
    assert largest <= found.peak_bytes <= component.program.sram_bytes
    assert found.in_use_bytes[-1] == 0
    assert (np.diff(found.at_ps) > 0).all()
    assert 0 < found.mean_bytes(component.timeline.total_ps) < found.peak_bytes


def test_traffic_rows_add_up_to_the_ledger(serial: Reported) -> None:
    rows, total = serial.document["traffic_rows"], serial.document["traffic"]["total_bytes"]
    for view in ("causes", "ops", "tensors"):
        assert sum(row["image_bytes"] for row in rows[view]) == total
        assert sum(row["share_percent"] for row in rows[view]) == pytest.approx(100)
    spilled = serial.document["traffic"]["by_cause"]["spill"]
    assert spilled == sum(row["image_bytes_by_cause"].get("spill", 0) for row in rows["again"]) > 0
    assert all(row["modules"] for row in rows["tensors"])


def test_ranking_is_by_share_and_ends_at_all(pipelined: Reported) -> None:
    ranking, ops = pipelined.document["ops"], pipelined.document["latency"]["ops"]
    shares = [ops[row["index"]]["share_percent"] for row in ranking]
    assert shares == sorted(shares, reverse=True)
    assert sorted(row["index"] for row in ranking) == list(range(len(ops)))
    assert ranking[-1]["cumulative_percent"] == pytest.approx(100)
    assert sum(pipelined.document["limited_by"].values()) == pytest.approx(100)


def test_no_op_lies_above_the_roof(pipelined: Reported) -> None:
    roofline = pipelined.document["roofline"]
    roofs = {roof["precision"]: roof["macs_per_s"] for roof in roofline["roofs"]}
    assert roofline["points"]
    for point in roofline["points"]:
        bandwidth = point["macs_per_byte"] * roofline["dram_bytes_per_s"]
        assert point["macs_per_s"] <= min(bandwidth, roofs[point["precision"]]) * 1.0001


@pytest.mark.parametrize(
    ("change", "setting"), [("DRAM bandwidth × 2", "dma_bandwidth=2x"), ("SRAM × 2", "sram=2x")]
)
def test_what_ifs_are_what_simulate_says(pipelined: Reported, change: str, setting: str) -> None:
    (row,) = [r for r in pipelined.document["what_ifs"] if r["change"].startswith(change)]
    scenario = scenario_of(pipelined.bundle, settings=[setting])
    profile = profile_bundle(pipelined.bundle, scenario)
    assert row["total_ms"] == profile.latency.total_ms
    saved = pipelined.profile.latency.total_ms - profile.latency.total_ms
    assert row["saved_ms"] == pytest.approx(saved)
    ops = {op.latency.name: op.image_ps / 1e9 for op in profile.ops}
    top = pipelined.profile.costliest()[:TOP]
    assert row["ops_ms"] == [ops[op.latency.name] for op in top]


def test_a_faster_bus_is_found_to_help(pipelined: Reported) -> None:
    by_change = {row["change"]: row for row in pipelined.document["what_ifs"]}
    assert (
        by_change["DRAM bandwidth × 2"]["saved_ms"] > by_change["DRAM bandwidth × 1.25"]["saved_ms"]
    )
    assert by_change["DRAM bandwidth × 1.25"]["saved_ms"] > 0
    assert not any("step" in change for change in by_change), "it takes no steps"


def test_the_tiling_taken_is_the_programs_and_the_runner_up_is_worse(pipelined: Reported) -> None:
    taken = {op.latency.name: op.latency.tile for op in pipelined.profile.ops}
    rows = pipelined.document["tiles"]
    assert len(rows) == TOP
    for row in rows:
        assert row["taken"]["tiling"] == taken[row["name"]]
        assert "time_ms" in row["taken"], row["why"]
        if row["runner_up"]:
            order = ("time_ms", "dma_bytes", "instructions", "sram_bytes")
            mine, other = ([row[k][key] for key in order] for k in ("taken", "runner_up"))
            assert mine <= other
        assert row["why"]
    assert any(row["runner_up"] and "slower" in row["why"] for row in rows)


def test_another_machine_is_reported_as_such(pipelined: Reported) -> None:
    scenario = scenario_of(pipelined.bundle, settings=["dma_bandwidth=2x"])
    document = report_document(profile_bundle(pipelined.bundle, scenario), pipelined.findings)
    assert document["made_from"]["changes"].keys() == {"dma_bandwidth_bytes_per_s"}
    assert document["calibration"]["statuses"]["set"] == 1
    assert document["calibration"]["residuals"] is None, "the paper was not compared with it"


def test_every_parameter_has_its_provenance() -> None:
    rows = parameter_rows(load_target("exynos2400"))
    names = [row["name"] for row in rows]
    assert {"clock_hz", "dma_engines", "vector_cycles.softmax", "tensor_rate.w8a16"} <= set(names)
    counts = status_counts(rows)
    assert "" not in counts
    assert sum(counts.values()) == len(set(names)) == len(names)
    unknown = replace(load_target("exynos2400"), provenance={})
    assert status_counts(parameter_rows(unknown)) == {"": len(names)}


def test_residuals_are_of_the_machine_or_say_that_they_are_not() -> None:
    machine = load_target("exynos2400").machine
    found = residuals(machine)
    assert found is not None
    assert {"encoder_ms", "paper_encoder_ms", "error_encoder_percent"} <= found["table7"][0].keys()
    other = residuals(machine.with_values(semaphore_ns=1.0))
    assert other is not None
    assert not other["same_machine"]
    assert residuals(machine.with_values(name="mine")) is None


def test_side_by_side_counts_from_the_first(pipelined: Reported, serial: Reported) -> None:
    first, second = comparison([pipelined.document, serial.document])
    assert first["total_change_percent"] == 0
    totals = [each.profile.latency.total_ms for each in (pipelined, serial)]
    assert second["total_change_percent"] == pytest.approx(100 * (totals[1] / totals[0] - 1))
    assert second["total_change_percent"] > 0
