"""A case against its baseline: OK, CHANGED, NEW, MISSING, or an ERROR that kept it from being
timed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edgefusion.runtime.errors import EdgeFusionError
from edgefusion.toolchain.suites.baseline import Baseline
from edgefusion.toolchain.suites.explanation import explain, other_conditions
from edgefusion.toolchain.suites.figures import Figures
from edgefusion.toolchain.suites.suite import Case, Suite


class Status(StrEnum):
    """What a check says of a case."""

    OK = "OK"
    CHANGED = "CHANGED"
    NEW = "NEW"
    MISSING = "MISSING"
    ERROR = "ERROR"
    TIMED = "TIMED"
    """Timed, and compared with nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """A metric that differs; None where one side has it not. ``allowed`` by its tolerance."""

    metric: str
    before: int | None
    after: int | None
    allowed: bool


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case, timed and compared. ``explanation`` is empty where nothing moved."""

    case: str
    status: Status
    figures: Figures | None = None
    baseline: Baseline | None = None
    changes: tuple[Change, ...] = ()
    explanation: tuple[str, ...] = ()
    error: EdgeFusionError | None = None

    @property
    def moved(self) -> bool:
        """Whether a baseline written now would say something else than the one there is."""
        if self.figures is None or self.baseline is None:
            return True
        old, new = self.baseline.figures, self.figures
        same_source = old.conditions.source_digest == new.conditions.source_digest
        same = (old.metrics, old.ops) == (new.metrics, new.ops) and same_source
        return not same or bool(other_conditions(old.conditions, new.conditions))


def compare(suite: Suite, case: Case, figures: Figures, baseline: Baseline | None) -> CaseResult:
    """The result of a case that was timed."""
    if baseline is None:
        note = ("it has no baseline yet",)
        return CaseResult(case.name, Status.NEW, figures, None, (), note)
    before, after = baseline.figures.flat(), figures.flat()
    changes = tuple(
        _change(suite, case, metric, before.get(metric), after.get(metric))
        for metric in dict.fromkeys((*after, *before))
        if before.get(metric) != after.get(metric)
    )
    conditions = other_conditions(baseline.figures.conditions, figures.conditions)
    passed = not conditions and all(change.allowed for change in changes)
    explanation = explain(baseline.figures, figures)
    if passed and changes:
        explanation.insert(0, f"{len(changes)} figures moved within their tolerance")
    status = Status.OK if passed else Status.CHANGED
    return CaseResult(case.name, status, figures, baseline, changes, tuple(explanation))


def missing(case: str) -> CaseResult:
    """The result of a baseline whose case the suite has not."""
    note = ("there is a baseline, but the suite has no such case any more",)
    return CaseResult(case, Status.MISSING, None, None, (), note)


def failed(case: str, error: EdgeFusionError) -> CaseResult:
    """The result of a case that could not be timed, or whose baseline could not be read."""
    return CaseResult(case, Status.ERROR, explanation=(str(error),), error=error)


def _change(suite: Suite, case: Case, metric: str, before: int | None, after: int | None) -> Change:
    allowed = (
        before is not None
        and after is not None
        and suite.tolerance_of(case, metric).allows(before, after)
    )
    return Change(metric, before, after, allowed)
