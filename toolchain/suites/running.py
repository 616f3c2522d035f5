"""Runs a suite: times its cases, compares them with their baselines, writes baselines anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from edgefusion.runtime.errors import EdgeFusionError, RegressionError, UsageError
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.profiling.profile import Profile, profile_bundle
from edgefusion.toolchain.profiling.scenario import scenario_of
from edgefusion.toolchain.suites.baseline import (
    Baseline,
    Reason,
    baseline_path,
    read_baseline,
    stored_cases,
    write_baselines,
)
from edgefusion.toolchain.suites.bundles import Bundles
from edgefusion.toolchain.suites.comparison import CaseResult, Status, compare, failed, missing
from edgefusion.toolchain.suites.figures import Figures, figures_of
from edgefusion.toolchain.suites.suite import Case, Suite

_FAILING = (Status.ERROR, Status.CHANGED, Status.NEW, Status.MISSING)
_NAMED = 5


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """The results of a suite's cases, in its order, then those that it has not any more."""

    suite: Suite
    cases: tuple[CaseResult, ...]

    def count(self, status: Status) -> int:
        """How many cases have ``status``."""
        return sum(case.status is status for case in self.cases)

    def failing(self, *, allow_new: bool = False) -> list[CaseResult]:
        """The cases that fail a check."""
        allowed = (Status.NEW,) if allow_new else ()
        return [c for c in self.cases if c.status in _FAILING and c.status not in allowed]

    def summary(self) -> str:
        """``2 OK, 1 CHANGED``."""
        counts = [(self.count(status), status) for status in Status]
        return ", ".join(f"{count} {status}" for count, status in counts if count) or "no cases"

    def verdict(self, *, allow_new: bool = False) -> EdgeFusionError | None:
        """The error that a check ends with, if any: that of the first case that could not be timed,
        or a RegressionError that says how to go on."""
        for case in self.cases:
            if case.error is not None:
                return type(case.error)(f"case {case.case}: {case.error}")
        failing = self.failing(allow_new=allow_new)
        if not failing:
            return None
        names = [case.case for case in failing]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        what = "differs from its baseline" if len(failing) == 1 else "differ from their baselines"
        return RegressionError(
            f"{len(failing)} of {len(self.cases)} cases of {self.suite.path} {what} "
            f"({self.summary()}): {', '.join(names[:_NAMED])}{more}. Where that is meant, "
            f'run `edgefusion bench update {self.suite.path} --reason "..."` and commit the '
            "baselines with what moved them."
        )


def chosen_cases(suite: Suite, pattern: str | None) -> tuple[Case, ...]:
    """The cases whose names match the shell pattern, all for None; UsageError if none does."""
    if pattern is None:
        return suite.cases
    found = tuple(case for case in suite.cases if fnmatchcase(case.name, pattern))
    if not found and not any(fnmatchcase(name, pattern) for name in stored_cases(suite.baselines)):
        names = [case.name for case in suite.cases]
        near = get_close_matches(pattern, names, 3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join(names)}."
        raise UsageError(f"--case {pattern}: {suite.path} has no such case. {hint}")
    return found


def profile_case(case: Case, bundles: Bundles) -> Profile:
    """Time a case. Raises what compiling, opening, lowering and simulating raise."""
    bundle = bundles.of(case)
    scenario = scenario_of(
        bundle,
        settings=case.settings,
        target=bundles.target(case),
        schedule=case.schedule,
        steps=case.steps,
    )
    components = case.entry.components or None
    return profile_bundle(bundle, scenario, components=components)


def time_cases(
    suite: Suite, cases: Sequence[Case], bundles: Bundles, progress: Say = silent
) -> SuiteResult:
    """Time ``cases`` and compare them with nothing."""
    bundles.check(cases)
    results = []
    for number, case in enumerate(cases, 1):
        progress(f"case {number} of {len(cases)}: {case.name}")
        try:
            figures = figures_of(profile_case(case, bundles))
        except EdgeFusionError as error:
            results.append(failed(case.name, error))
        else:
            results.append(CaseResult(case.name, Status.TIMED, figures))
    return SuiteResult(suite, tuple(results))


def check_case(suite: Suite, case: Case, bundles: Bundles) -> CaseResult:
    """Time a case and compare it with its baseline; an error that a user can cause is a result."""
    try:
        baseline = read_baseline(baseline_path(suite.baselines, case.name))
        figures = figures_of(profile_case(case, bundles))
    except EdgeFusionError as error:
        return failed(case.name, error)
    return compare(suite, case, figures, baseline)


def cases_gone(suite: Suite, pattern: str | None = None) -> list[str]:
    """Names of baselines, of those that match ``pattern``, whose cases the suite has not."""
    known = {case.name for case in suite.cases}
    return [
        name
        for name in stored_cases(suite.baselines)
        if name not in known and (pattern is None or fnmatchcase(name, pattern))
    ]


def check_suite(
    suite: Suite, bundles: Bundles, *, pattern: str | None = None, progress: Say = silent
) -> SuiteResult:
    """Compare the cases that match ``pattern`` with their baselines.

    Raises UsageError where none matches, InputError for a bundle that is not there; what keeps a
    single case from being timed is its result.
    """
    cases = chosen_cases(suite, pattern)
    bundles.check(cases)
    results = []
    for number, case in enumerate(cases, 1):
        progress(f"case {number} of {len(cases)}: {case.name}")
        results.append(check_case(suite, case, bundles))
    results += [missing(name) for name in cases_gone(suite, pattern)]
    return SuiteResult(suite, tuple(results))


def update_suite(
    suite: Suite,
    bundles: Bundles,
    reason: str,
    *,
    pattern: str | None = None,
    prune: bool = False,
    progress: Say = silent,
) -> SuiteResult:
    """Write the baselines of those cases anew whose figures moved, with ``reason``; the result says
    what moved. With ``prune`` baselines go whose cases are gone.

    All are written or none: raises the error of a case that cannot be timed or whose baseline
    cannot be read, UsageError for an empty reason, and what ``check_suite`` does.
    """
    reason = " ".join(reason.split())
    if not reason:
        raise UsageError("--reason is empty; say why the figures moved, for those who review them.")
    result = check_suite(suite, bundles, pattern=pattern, progress=progress)
    for case in result.cases:
        if case.error is not None:
            raise type(case.error)(f"case {case.case}: {case.error} No baseline was changed.")
    files: dict[Path, tuple[str, Baseline]] = {}
    for case in result.cases:
        if case.figures is not None and case.moved:
            path = baseline_path(suite.baselines, case.case)
            files[path] = case.case, _renewed(case.baseline, case.figures, reason)
    if files:
        write_baselines(files)
    if prune:
        for name in cases_gone(suite, pattern):
            path = baseline_path(suite.baselines, name)
            with disk_errors(path):
                path.unlink()
    return result


def _renewed(before: Baseline | None, figures: Figures, reason: str) -> Baseline:
    made = figures.conditions
    newest = Reason(reason, figures.latency_ps, made.tool_version, made.cost_model_version)
    return Baseline(figures, (newest, *(before.history if before else ())))
