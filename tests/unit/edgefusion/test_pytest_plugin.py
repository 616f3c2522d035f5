"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from edgefusion.toolchain.suites.baseline import baseline_path, write_baselines
from edgefusion.toolchain.suites.comparison import compare
from edgefusion.toolchain.suites.running import CaseResult
from edgefusion.toolchain.suites.suite import Case, Suite
from tests.suite_cases import baseline, figures

pytest_plugins = ["pytester"]

SUITE = """schema_version = 1
[[entry]]
name = "a"
bundle = "a.npub"
schedules = ["serial", "mlt", "pipelined"]
"""
PLUGIN = "edgefusion.pytest_plugin"
_INSTALLED = any(each.value == PLUGIN for each in entry_points(group="pytest11"))
_LOAD = () if _INSTALLED else ("-p", PLUGIN)


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite whose serial case is as its baseline, whose mlt case moved, whose pipelined case is
    new; and a baseline without a case."""
    pytester.makefile(".toml", suite=SUITE)
    place = pytester.path / "baselines" / "suite"
    names = ("a/serial", "a/mlt", "a/gone")
    write_baselines({baseline_path(place, name): (name, baseline()) for name in names})

    def check_case(suite: Suite, case: Case, bundles: object) -> CaseResult:
        from edgefusion.toolchain.suites.baseline import read_baseline

        now = figures(3_100_000_000) if case.schedule == "mlt" else figures()
        return compare(suite, case, now, read_baseline(baseline_path(place, case.name)))

    monkeypatch.setattr("edgefusion.toolchain.suites.running.check_case", check_case)
    return pytester.path


def test_a_suite_that_is_named_is_a_test_a_case(pytester: pytest.Pytester, folder: Path) -> None:
    result = pytester.runpytest_inprocess(*_LOAD, "suite.toml", "-v")
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*suite.toml::a/serial PASSED*",
            "*suite.toml::a/mlt FAILED*",
            "*suite.toml::a/pipelined FAILED*",
            "*suite.toml::a/gone FAILED*",
            "CHANGED a/mlt",
            "  pipeline: 8.000 -> 8.200 ms (+0.200 ms, +2.50 %)",
            "    unet.down.0 conv: 3.000 -> 3.100 ms (+0.100 ms, +3.33 %)",
            "NEW a/pipelined",
            "MISSING a/gone",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_new_cases_may_be_allowed_and_cases_chosen(pytester: pytest.Pytester, folder: Path) -> None:
    result = pytester.runpytest_inprocess(
        *_LOAD, "suite.toml", "--npu-allow-new", "-k", "serial or pipelined"
    )
    result.assert_outcomes(passed=2, deselected=2)


def test_suites_are_found_by_their_ending_alone(pytester: pytest.Pytester, folder: Path) -> None:
    pytester.runpytest_inprocess(*_LOAD).assert_outcomes()
    (folder / "suite.toml").rename(folder / "suite.npu-suite.toml")
    pytester.runpytest_inprocess(*_LOAD).assert_outcomes(passed=1, failed=3)


def test_a_suite_that_is_not_understood_is_one_error(pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", suite=SUITE.replace("schedules", "schedule"))
    result = pytester.runpytest_inprocess(*_LOAD, "suite.toml")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*unknown key entry.0.schedule (did you mean schedules?)*"])
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_a_case_that_cannot_be_timed_fails_with_the_reason(pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", suite=SUITE)
    result = pytester.runpytest_inprocess(*_LOAD, "suite.toml")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["ERROR a/serial", "*a.npub*"])


def test_the_fixture_times_a_bundle(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    monkeypatch.setattr(
        "edgefusion.compiler.bundle.bundle.Bundle.open", lambda path: called.append(path) or path
    )
    monkeypatch.setattr(
        "edgefusion.toolchain.profiling.scenario.scenario_of", lambda _, **given: given
    )
    monkeypatch.setattr(
        "edgefusion.toolchain.profiling.profile.profile_bundle", lambda _, given: given
    )
    pytester.makepyfile(
        """
        def test_latency(npu_profile):
            assert npu_profile("my.npub", steps=4)["steps"] == 4
        """
    )
    pytester.runpytest_inprocess(*_LOAD).assert_outcomes(passed=1)
    assert called == ["my.npub"]


def test_it_costs_nothing_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded():
            heavy = ("numpy", "onnx", "torch", "pydantic", "edgefusion.toolchain", "typer")
            assert not [name for name in heavy if name in sys.modules]
        """
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:hypothesispytest"]
    result = subprocess.run(
        [*command, "-W", "error", *_LOAD], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
    off = subprocess.run(
        [*command, "-p", "no:edgefusion"], capture_output=True, text=True, check=False
    )
    assert off.returncode == 0, off.stdout
