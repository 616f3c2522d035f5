"""A case against its baseline, and the explanation of what moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgefusion.toolchain.suites.comparison import Status, compare
from edgefusion.toolchain.suites.explanation import explain, moved_ops
from edgefusion.toolchain.suites.figures import Figures
from edgefusion.toolchain.suites.suite import Suite, load_suite
from tests.suite_cases import CONDITIONS, baseline, figures, under


def suite(tmp_path: Path, tolerance: str = "") -> Suite:
    path = tmp_path / "s.toml"
    entry = '[[entry]]\nname = "a"\nsource = "x"\n'
    path.write_text(f"schema_version = 1\n{entry}[tolerance]\n{tolerance}\n")
    return load_suite(path)


def status(loaded: Suite, now: Figures) -> Status:
    return compare(loaded, loaded.cases[0], now, baseline()).status


def test_the_same_is_ok_and_a_picosecond_is_not(tmp_path: Path) -> None:
    exact = suite(tmp_path)
    same = compare(exact, exact.cases[0], figures(), baseline())
    assert (same.status, same.changes, same.explanation) == (Status.OK, (), ())
    assert not same.moved
    for now in (figures(3_000_000_001), figures(2_999_999_999), figures(nbytes=101)):
        result = compare(exact, exact.cases[0], now, baseline())
        assert result.status is Status.CHANGED
        assert result.moved
        assert result.explanation
    assert compare(exact, exact.cases[0], figures(), None).status is Status.NEW


def test_tolerances_are_for_each_metric(tmp_path: Path) -> None:
    tenth = suite(tmp_path, '"*_ps*" = { percent = 10, only_more = true }')
    slower, much_slower, faster = figures(3_100_000_000), figures(4_000_000_000), figures(10)
    assert status(tenth, slower) is Status.OK
    assert status(tenth, much_slower) is Status.CHANGED
    assert status(tenth, faster) is Status.OK
    assert status(tenth, figures(nbytes=101)) is Status.CHANGED
    result = compare(tenth, tenth.cases[0], slower, baseline())
    assert result.moved, "an update writes it"
    assert all(change.allowed for change in result.changes)
    assert "within their tolerance" in result.explanation[0]


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        (replace(CONDITIONS, cost_model_version=3), "cost model 2 -> 3"),
        (replace(CONDITIONS, schedule="serial"), "schedule mlt -> serial"),
        (replace(CONDITIONS, steps=4), "steps 2 -> 4"),
        (
            replace(
                CONDITIONS,
                target_digest="d2",
                parameters={"sram_bytes": 8192, "clock_hz": 1e9, "vector_cycles.softmax": 12},
            ),
            "target phone: sram_bytes 4,096 -> 8,192, vector_cycles.softmax 13.5 -> 12",
        ),
    ],
)
def test_other_conditions_are_a_change(tmp_path: Path, conditions: object, said: str) -> None:
    exact = suite(tmp_path)
    now = under(conditions)  # type: ignore[arg-type]
    result = compare(exact, exact.cases[0], now, baseline())
    assert result.status is Status.CHANGED
    assert result.explanation == (f"timed on something else: {said}",)


def test_the_tool_and_the_weights_may_be_others(tmp_path: Path) -> None:
    exact = suite(tmp_path)
    newer = under(replace(CONDITIONS, tool_version="2.0"))
    result = compare(exact, exact.cases[0], newer, baseline())
    assert (result.status, result.moved) == (Status.OK, False)
    assert result.explanation == ("also: tool 1.0 -> 2.0",)
    trained = under(replace(CONDITIONS, source_digest="6" * 64))
    result = compare(exact, exact.cases[0], trained, baseline())
    assert (result.status, result.moved) == (Status.OK, True)
    assert result.explanation == ("also: source model: content 555555555555 -> 666666666666",)


def test_an_explanation_says_what_moved() -> None:
    now = figures(3_100_000_000, "4", nbytes=164)
    assert explain(figures(tile="8"), now) == [
        "pipeline: 8.000 -> 8.200 ms (+0.200 ms, +2.50 %)",
        "  weight +128 bytes",
        "unet, an evaluation (of 2): 4.000 -> 4.100 ms (+0.100 ms, +2.50 %)",
        "  dma busy +0.100 ms",
        "  weight +64 bytes",
        "ops that moved, of an evaluation each (1 in all):",
        "  unet.down.0 conv: 3.000 -> 3.100 ms (+0.100 ms, +3.33 %), +64 bytes, tile 8 -> 4",
    ]


def test_ops_come_and_go_and_are_ranked_by_the_image() -> None:
    before, after = figures(), figures()
    rows = dict(after.ops["unet"])
    old = rows.pop("down.0 conv")
    rows["down.0 matmul"] = replace(old, latency_ps=1_000_000_000)
    after = replace(after, ops={"unet": rows})
    ops = moved_ops(before, after)
    assert [op.image_ps for op in ops] == [-6_000_000_000, 2_000_000_000]
    assert [str(op) for op in ops] == [
        "unet.down.0 conv is gone: 3.000 ms",
        "unet.down.0 matmul is new: 1.000 ms",
    ]


def test_a_component_that_is_new() -> None:
    after = figures()
    after = replace(after, metrics={**after.metrics, "vae_decoder": {"latency_ps": 1}})
    assert explain(figures(), after) == ["component vae_decoder is new"]
