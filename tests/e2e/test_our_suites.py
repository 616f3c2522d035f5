"""The project's own latency tables: whoever moves a latency says why, in the commit that does.

Where that is meant: ``edgefusion bench update benchmarks/suites/quick.toml --reason "..."``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Cli


def test_small_models_are_as_their_baselines(cli: Cli, demo: Path, repository_root: Path) -> None:
    """With the demo's bundles, of one schedule each: the others are lowered from it."""
    outcome = cli(
        *("bench", "check", repository_root / "benchmarks" / "suites" / "quick.toml"),
        *("--bundle", f"tiny-test={demo / 'tiny-test-mlt.npub'}"),
        *("--bundle", f"miniature={demo / 'miniature.npub'}"),
    )
    assert outcome.code == 0, outcome.out + outcome.err


def test_every_baseline_is_of_a_case_and_every_case_has_one(repository_root: Path) -> None:
    from edgefusion.toolchain.suites.baseline import baseline_path, read_baseline, stored_cases
    from edgefusion.toolchain.suites.suite import load_suite

    for name in ("quick", "full"):
        suite = load_suite(repository_root / "benchmarks" / "suites" / f"{name}.toml")
        cases = [case.name for case in suite.cases]
        assert sorted(cases) == stored_cases(suite.baselines)
        assert all(read_baseline(baseline_path(suite.baselines, case)) for case in cases)


@pytest.mark.full
def test_presets_at_full_size_are_as_their_baselines(
    cli: Cli, tmp_path: Path, repository_root: Path
) -> None:
    suite = repository_root / "benchmarks" / "suites" / "full.toml"
    outcome = cli("bench", "check", suite, "--work-dir", tmp_path)
    assert outcome.code == 0, outcome.out + outcome.err
