"""What an exploration found: its trials, and which of them no other one beats in everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from edgefusion.toolchain.exploring.parameters import Value
from edgefusion.toolchain.exploring.suite import HIGHER_IS_BETTER
from edgefusion.toolchain.exploring.sweep import Timed
from edgefusion.toolchain.exploring.trial import Outcome

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Found:
    """A trial: its values by parameter, and its figures, or the ``problem`` for which it has
    none."""

    index: int
    values: Mapping[str, Value]
    timed: Timed | None
    sqnr_db: float | None
    problem: str = ""

    @property
    def outcome(self) -> Outcome:
        """As a worker gave it."""
        return Outcome(self.timed, self.problem)

    def figures(self) -> dict[str, Any] | None:
        """By name, units in the names; None for a trial that did not fit."""
        return None if self.timed is None else asdict(self.timed) | {"sqnr_db": self.sqnr_db}


@dataclass(frozen=True)
class Findings:
    """The trials of a suite, by index; ``wanted`` is how many there shall be."""

    suite: str
    digest: str
    objectives: tuple[str, ...]
    wanted: int
    trials: tuple[Found, ...]

    @cached_property
    def front(self) -> frozenset[int]:
        """Indices of the trials that no other one beats: as good in all objectives and better in
        one."""
        fitting = [trial for trial in self.trials if trial.timed]
        points = [costs(trial, self.objectives) for trial in fitting]
        return frozenset(
            trial.index
            for trial, point in zip(fitting, points, strict=True)
            if not any(_beats(other, point) for other in points)
        )

    def to_json(self) -> dict[str, Any]:
        """What ``explore --json`` writes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "suite": self.suite,
            "suite_digest": self.digest,
            "objectives": list(self.objectives),
            "trials_wanted": self.wanted,
            "trials_found": len(self.trials),
            "pareto_front": sorted(self.front),
            "trials": [
                {
                    "index": trial.index,
                    "on_front": trial.index in self.front,
                    "values": dict(trial.values),
                    "fits": trial.timed is not None,
                    "problem": trial.problem,
                    "figures": trial.figures(),
                }
                for trial in self.trials
            ],
        }


def costs(trial: Found, objectives: Sequence[str]) -> tuple[float, ...]:
    """A trial's figures, each turned so that less is better."""
    figures = trial.figures() or {}
    return tuple(
        -figures[name] if name in HIGHER_IS_BETTER else figures[name] for name in objectives
    )


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
