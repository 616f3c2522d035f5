"""Baselines: what is read is what was written, and nonsense is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edgefusion.runtime.errors import InputError
from edgefusion.toolchain.suites.baseline import (
    Baseline,
    Reason,
    baseline_path,
    baseline_text,
    read_baseline,
    stored_cases,
    write_baselines,
)
from tests.suite_cases import baseline, figures


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    made = Baseline(
        figures(), (Reason('"why"\n\\é\x7f', 1, "2.0", 3), Reason("first", 2, "1.0", 2))
    )
    path = baseline_path(tmp_path, "a/mlt")
    write_baselines({path: ("a/mlt", made)})
    assert read_baseline(path) == made
    assert stored_cases(tmp_path) == ["a/mlt"]
    assert path.read_text() == baseline_text("a/mlt", made)
    assert [p.name for p in path.parent.iterdir()] == ["mlt.toml"]
    assert read_baseline(tmp_path / "b.toml") is None


def test_every_figure_is_a_line_of_its_own() -> None:
    before = baseline_text("a", baseline()).splitlines()
    after = baseline_text("a", baseline(figures(conv_ps=3_000_000_001))).splitlines()
    assert len(before) == len(after)
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert moved == [
        "latency_ps = 8000000002",
        "latency_ps = 4000000001",
        "busy_ps.dma = 3000000001",
        '"down.0 conv" = [3000000001, 100, "rows=8"]',
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema_version = 1", "schema_version = 9", "schema_version 9; this tool reads 1"),
        ("schema_version = 1", "", "schema_version None"),
        (
            "latency_ps = 8000000000",
            "latency_ps = -1",
            "pipeline.latency_ps is -1, expected",
        ),
        ("evaluations = 2", 'evaluations = "two"', "unet.evaluations is 'two', expected a whole"),
        ("evaluations = 2", "evaluations = 2.0", "unet.evaluations is 2.0"),
        ("dram_bytes = 300", "", "pipeline.dram_bytes is missing"),
        ("[pipeline]", "[picture]", "unknown key picture"),
        ('"rows=8"]', '"rows=8", 1]', "ops.unet.down.0 conv"),
        ("steps = 2", "steps = ", "cannot read the baseline"),
        ("[timed]", "[timd]", "did you mean timed?"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = baseline_text("a", baseline())
    assert old in text
    path = tmp_path / "a.toml"
    # The figures, not the reason's copy of one, are what is edited where both could be meant
    path.write_text(new.join(text.rsplit(old, 1)))
    with pytest.raises(InputError) as refused:
        read_baseline(path)
    assert said in str(refused.value)
    assert "a.toml" in str(refused.value)


def test_all_are_written_or_none(tmp_path: Path) -> None:
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    write_baselines({one: ("one", baseline())})
    before = one.read_bytes()
    broken = Baseline(figures(), (Reason("x", 1, "1", float("nan")),))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_baselines({one: ("one", baseline(figures(5))), other: ("other", broken)})
    assert one.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["one.toml"]


def test_it_is_plain_toml() -> None:
    data = tomllib.loads(baseline_text("a", baseline()))
    assert data["case"] == "a"
    assert data["components"]["unet"]["busy_ps"] == {"dma": 3_000_000_000, "tensor": 10}
    assert data["ops"]["unet"]["down.0 conv"] == [3_000_000_000, 100, "rows=8"]
