"""Sweeps: every combination once, each row as a report of that scenario has it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgefusion.cli.sweep import sweep_table
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.toolchain.exploring.plots import html, sweep_figure
from edgefusion.toolchain.exploring.sweep import Sweep, sweep
from edgefusion.toolchain.profiling.kept_bundle import KeptBundle
from edgefusion.toolchain.profiling.profile import profile_bundle
from edgefusion.toolchain.profiling.scenario import scenario_of
from tests.bundle_cases import bundle_of, small_networks


@pytest.fixture(scope="module")
def bundle() -> KeptBundle:
    return bundle_of(small_networks())


@pytest.fixture(scope="module")
def swept(bundle: KeptBundle) -> Sweep:
    return sweep(
        bundle, ["dma_bandwidth=10GB/s,1x", "sram=512B,1MiB"], schedules=["mlt"], steps=[1, 2]
    )


def test_every_combination_once(swept: Sweep) -> None:
    points = [tuple(row.point.values().values()) for row in swept.rows]
    assert len(points) == len(set(points)) == 8
    assert swept.varied == ("steps", "dma_bandwidth_bytes_per_s", "sram_bytes")


def test_rows_are_what_reports_of_their_scenarios_say(bundle: KeptBundle, swept: Sweep) -> None:
    for row in swept.rows:
        if row.timed is None:
            assert "fits the SRAM of 512 bytes" in row.problem
            assert row.point.settings["sram_bytes"] == 512
            continue
        settings = [f"{key}={value}" for key, value in row.point.settings.items()]
        scenario = scenario_of(bundle, settings=settings, steps=row.point.steps)
        profile = profile_bundle(bundle, scenario)
        assert row.timed.latency_ms == profile.latency.total_ms
        assert row.timed.dram_bytes == profile.dram_bytes
        assert row.timed.components_ms["unet"] == profile.component("unet").latency.latency_ms
        assert row.lowered_again
    own = profile_bundle(bundle)
    assert swept.own.latency_ms == own.latency.total_ms
    assert sum(row.timed is None for row in swept.rows) == 4


def test_rates_are_timed_as_is_unless_asked(bundle: KeptBundle) -> None:
    as_is = sweep(bundle, ["clock=0.5x,1x"])
    assert [row.lowered_again for row in as_is.rows] == [False, False]
    assert as_is.change_percent(as_is.rows[1]) == 0
    change = as_is.change_percent(as_is.rows[0])
    assert change is not None
    assert change > 0
    again = sweep(bundle, ["clock=0.5x"], lower_again=True)
    assert again.rows[0].lowered_again


def test_targets_and_multiples_of_each(bundle: KeptBundle, tmp_path: Path) -> None:
    path = tmp_path / "half.toml"
    path.write_text(
        'schema_version = 1\nname = "half"\nbase = "exynos2400"\n[memory]\nsram_bytes = 3145728\n'
    )
    found = sweep(bundle, ["sram=0.5x"], targets=["exynos2400", str(path)])
    sizes = {row.point.target: row.point.settings["sram_bytes"] for row in found.rows}
    assert sizes == {"exynos2400": 3145728, "half": 1572864}


def test_json_csv_and_table_agree(swept: Sweep) -> None:
    document = json.loads(json.dumps(swept.to_json(), allow_nan=False))
    table = sweep_table(swept, "title")
    lines = table.csv().splitlines()
    assert lines[0].startswith("dma_bandwidth_bytes_per_s,sram_bytes,steps,latency_ms")
    assert len(lines) == 1 + len(document["points"])
    for line, point in zip(lines[1:], document["points"], strict=True):
        cells = dict(zip(lines[0].split(","), line.split(","), strict=False))
        latency = point["latency_ms"]
        assert cells["latency_ms"] == ("" if latency is None else str(latency))
        assert cells["sram_bytes"] == str(point["settings"]["sram_bytes"])
        assert point["fits"] is (not point["problem"])


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (["clock=0.5x,1x,2x", "dma_bandwidth=10GB/s,20GB/s,30GB/s"], "heatmap"),
        (["clock=0.5x,1x,2x"], "scatter"),
        ([], "bar"),
    ],
)
def test_plots_hold_every_point_and_need_no_network(
    bundle: KeptBundle, settings: list[str], kind: str
) -> None:
    found = sweep(bundle, settings, schedules=["mlt"] if settings else ["mlt", "serial"])
    figure = sweep_figure(found, "a title")
    trace = figure.data[0]
    assert trace.type == kind
    drawn = [v for line in trace.z for v in line] if kind == "heatmap" else list(trace.y)
    assert sorted(drawn) == sorted(row.timed.latency_ms for row in found.rows if row.timed)
    page = html(figure, "a <title>")
    assert page.startswith("<!doctype html>")
    assert "a &lt;title&gt;" in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=\"http", page)


def test_nothing_is_timed_before_all_is_understood(bundle: KeptBundle) -> None:
    said: list[str] = []
    with pytest.raises(UsageError, match=r"sram_bytes .*found -1"):
        sweep(bundle, ["sram=1MiB,-1"], progress=said.append)
    with pytest.raises(UsageError, match="unknown schedule"):
        sweep(bundle, schedules=["mlt", "fast"], progress=said.append)
    with pytest.raises(InputError, match="unknown target"):
        sweep(bundle, targets=["exynos2400", "exynos9"], progress=said.append)
    with pytest.raises(UsageError, match="steps is 0"):
        sweep(bundle, steps=[1, 0], progress=said.append)
    with pytest.raises(UsageError, match="10,000 points"):
        sweep(bundle, ["clock=1GHz:2GHz:1MHz", "dma_setup=1:1000:1"], progress=said.append)
    assert not said
