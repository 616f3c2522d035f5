"""Suites: what their cases are, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.runtime.errors import InputError
from edgefusion.toolchain.suites.suite import Suite, Tolerance, load_suite


def suite(tmp_path: Path, text: str, name: str = "s.toml") -> Suite:
    path = tmp_path / name
    path.write_text(f"schema_version = 1\n{text}")
    return load_suite(path)


def test_cases_are_all_combinations_named_by_the_axes_that_are_given(tmp_path: Path) -> None:
    loaded = suite(
        tmp_path,
        """
schedules = ["serial", "mlt"]
[[entry]]
name = "a"
source = "tiny-test"
steps = [1, 4]
targets = ["exynos2400", "phones/next.toml"]
[[entry]]
name = "b"
bundle = "b.npub"
schedules = ["pipelined"]
[entry.what_if]
half = ["sram=0.5x", "clock_hz=1e9"]
""",
    )
    names = [case.name for case in loaded.cases]
    assert names[:4] == [
        "a/exynos2400/serial/1-step",
        "a/exynos2400/serial/4-steps",
        "a/exynos2400/mlt/1-step",
        "a/exynos2400/mlt/4-steps",
    ]
    assert names[4] == "a/next/serial/1-step"
    assert names[8:] == ["b/pipelined", "b/pipelined/half"]
    last = loaded.cases[-1]
    assert (last.target, last.schedule, last.steps) == (None, "pipelined", None)
    assert last.settings == ("sram=0.5x", "clock_hz=1e9")
    assert loaded.baselines == tmp_path / "baselines" / "s"


def test_a_suite_for_pytest_has_the_same_name(tmp_path: Path) -> None:
    loaded = suite(tmp_path, '[[entry]]\nname = "a"\nsource = "x"\n', "ours.npu-suite.toml")
    assert loaded.name == "ours"
    assert [case.name for case in loaded.cases] == ["a"]


ENTRY = '[[entry]]\nname = "a"\nsource = "x"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "entry is missing"),
        ("entry = []", "no [[entry]]"),
        (ENTRY + 'schedule = "mlt"', "unknown key entry.0.schedule (did you mean schedules?)"),
        ("basline = 1\n" + ENTRY, "unknown key basline (did you mean baselines?)"),
        (ENTRY + 'loras = ["a"]', "unknown key entry.0.loras (did you mean lora?)"),
        (ENTRY + "height = 0", "entry.0.height is 0"),
        (ENTRY + 'schedules = "mlt"', "schedules is 'mlt', expected a list"),
        (ENTRY + 'schedules = ["fast"]', "unknown schedule 'fast'; expected one of serial"),
        ('schedules = ["fast"]\n' + ENTRY, "unknown schedule 'fast'"),
        (ENTRY + "steps = [0]", "greater than or equal to 1"),
        (ENTRY + ENTRY, "several cases are called a"),
        (ENTRY + 'schedules = ["mlt", "mlt"]', "several cases are called a/mlt"),
        (ENTRY + 'bundle = "y"', "either bundle or source"),
        ('[[entry]]\nname = "a"', "either bundle or source"),
        ('[[entry]]\nname = "a"\nbundle = "b"\nrecipe = "r"', "recipe is for sources"),
        ('[[entry]]\nname = "a"\nbundle = "b"\nlora = ["l"]', "lora is for sources"),
        ('[[entry]]\nname = "../a"\nsource = "x"', "'../a' cannot name a case"),
        (ENTRY + '[entry.what_if]\n"a b" = ["sram=1"]', "'a b' cannot name a case"),
        (ENTRY + "[tolerance]\nx = { percent = -1 }", "greater than or equal to 0"),
        (ENTRY + "[tolerance]\nx = { precent = 1 }", "did you mean percent?"),
        (
            ENTRY + '[tolerance]\n"unet.latency_ms" = { percent = 1 }',
            "Did you mean unet.latency_ps",
        ),
        (ENTRY + '[entry.tolerance]\n"x.*" = { percent = 1 }', "matches no metric. Some are"),
        ("[[entry", "cannot read the suite"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        suite(tmp_path, text)
    assert said in str(refused.value)
    assert "s.toml" in str(refused.value)


def test_another_version_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("schema_version = 2\n")
    with pytest.raises(InputError, match="expected schema_version = 1, found 2"):
        load_suite(tmp_path / "s.toml")
    with pytest.raises(InputError, match="there is no suite"):
        load_suite(tmp_path / "t.toml")


def test_tolerances(tmp_path: Path) -> None:
    assert Tolerance().allows(100, 100)
    assert not Tolerance().allows(100, 101)
    assert not Tolerance().allows(100, 99)
    assert Tolerance(percent=1).allows(100, 101)
    assert not Tolerance(percent=1).allows(100, 102)
    assert Tolerance(absolute=3).allows(100, 97)
    assert not Tolerance(absolute=3).allows(100, 96)
    assert Tolerance(only_more=True).allows(100, 1)
    assert not Tolerance(only_more=True).allows(100, 101)
    loaded = suite(
        tmp_path,
        ENTRY
        + '[entry.tolerance]\n"unet.*" = { percent = 5 }\n'
        + '[tolerance]\n"*.latency_ps" = { percent = 1 }\n"unet.busy_ps.*" = { percent = 2 }\n',
    )
    (case,) = loaded.cases
    found = [
        loaded.tolerance_of(case, metric).percent
        for metric in ("unet.latency_ps", "pipeline.latency_ps", "pipeline.dram_bytes")
    ]
    assert found == [5, 1, 0]
