"""Traces, comparisons, figures, pages and sweeps from Python: one bundle, or its path."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgefusion
from edgefusion import Bundle, UsageError, compile_source, open_bundle, simulate
from tests.network_cases import save


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small convolutional network, compiled."""
    folder = tmp_path_factory.mktemp("views")
    compile_source(save(folder, "cnn"), output=folder / "b.npub", schedules="mlt")
    return open_bundle(folder / "b.npub")


def test_a_trace_of_a_profile_equals_that_of_its_bundle(bundle: Bundle, tmp_path: Path) -> None:
    first = edgefusion.trace(bundle.path, tmp_path / "a.pftrace")
    second = edgefusion.trace(simulate(bundle), str(tmp_path / "b.pftrace"))
    assert first.read_bytes() == second.read_bytes() != b""
    assert first.with_suffix(".json") == edgefusion.trace(bundle, tmp_path / "a.json")


def test_a_comparison_tells_itself(bundle: Bundle) -> None:
    assert str(edgefusion.diff(bundle, bundle)).startswith("identical")
    faster = simulate(bundle, set={"dma_bandwidth": "2x"})
    with pytest.raises(UsageError, match="dma_bandwidth"):
        edgefusion.diff(bundle, faster)
    found = edgefusion.diff(bundle, faster, force=True)
    before, after = found.latency_ps
    assert before > after == faster.latency.total_ps
    assert sum(part.latency_ps for part in found.parts) == after - before
    assert f"{after / 1e9:,.3f} ms" in str(found)


def test_figures_are_of_the_profile(bundle: Bundle) -> None:
    figures = edgefusion.plots(bundle)
    assert {"components", "engines", "roofline", "bounds"} <= set(figures)
    shown = sum(sum(trace.x) for trace in figures["components"].data)
    assert shown == pytest.approx(simulate(bundle).latency.total_ms)


def test_a_page_of_one_or_several(bundle: Bundle, tmp_path: Path) -> None:
    one = edgefusion.report(bundle, tmp_path / "one.html", what_if=False, top=1)
    two = edgefusion.report([bundle, bundle.path], tmp_path / "two.html", what_if=False, top=1)
    assert one.read_text(encoding="utf-8").count("plotly") > 1
    assert two.stat().st_size > one.stat().st_size
    with pytest.raises(UsageError, match="one or several"):
        edgefusion.report([], tmp_path / "none.html")
    with pytest.raises(UsageError, match="bundle"):
        edgefusion.report(bundle, bundle.path, what_if=False, top=1)


def test_a_sweep_takes_lists_of_values(bundle: Bundle) -> None:
    found = edgefusion.sweep(bundle, set={"dma_bandwidth": ["1x", 30e9]}, schedules="mlt")
    first, second = found.to_json()["points"]
    assert first["latency_ms"] == simulate(bundle).latency.total_ms > second["latency_ms"]
    assert second["settings"] == {"dma_bandwidth_bytes_per_s": 30e9}
