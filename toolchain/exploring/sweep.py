"""A bundle timed on all combinations of targets, schedules, machine values and steps.

Each point is a ``Profile`` like that of one report, of which a row is kept. A point that does not
fit its machine is a row that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import prod
from typing import Any

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.errors import DoesNotFitError, UsageError
from edgefusion.runtime.latency import PS_PER_MS
from edgefusion.runtime.progress import Say, silent
from edgefusion.runtime.settings import parse_choices, setting_text
from edgefusion.toolchain.profiling.kept_bundle import KeptBundle
from edgefusion.toolchain.profiling.profile import Profile, profile_bundle
from edgefusion.toolchain.profiling.scenario import Scenario, lowers_again, scenario_of
from edgefusion.toolchain.reporting.documents import about

SCHEMA_VERSION = 1
_MOST_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Point:
    """One combination; ``settings`` are machine values by key, the unit in the key."""

    target: str
    schedule: str
    steps: int
    settings: Mapping[str, int | float]

    def values(self) -> dict[str, int | float | str]:
        """All that points can differ in, by name."""
        return {
            "target": self.target,
            "schedule": self.schedule,
            "steps": self.steps,
            **self.settings,
        }


@dataclass(frozen=True, slots=True)
class Timed:
    """What a point's profile says of an image; ``components_ms`` are of one evaluation each."""

    latency_ms: float
    bound_ms: float
    dram_bytes: int
    sram_bytes: int
    sram_used_bytes: int
    components_ms: Mapping[str, float]

    @classmethod
    def of(cls, profile: Profile) -> Timed:
        """The figures of one profile."""
        return cls(
            profile.latency.total_ms,
            profile.latency.bound_ps / PS_PER_MS,
            profile.dram_bytes,
            profile.scenario.machine.sram_bytes,
            profile.sram_used_bytes,
            {c.name: c.latency.latency_ms for c in profile.components},
        )


@dataclass(frozen=True, slots=True)
class Row:
    """A point and its times, or the ``problem`` for which it has none."""

    point: Point
    lowered_again: bool
    timed: Timed | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """All rows, in the order of the points, and what the bundle takes as it is (``own``)."""

    about: Mapping[str, Any]
    own: Timed
    rows: tuple[Row, ...]

    @property
    def varied(self) -> tuple[str, ...]:
        """Names of what points differ in, the first one slowest."""
        points = [row.point.values() for row in self.rows]
        names = points[0] if points else {}
        return tuple(name for name in names if len({point[name] for point in points}) > 1)

    def change_percent(self, row: Row) -> float | None:
        """A row's latency against that of the bundle as it is; None where it has none."""
        if row.timed is None or not self.own.latency_ms:
            return None
        return 100 * (row.timed.latency_ms / self.own.latency_ms - 1)

    def to_json(self) -> dict[str, Any]:
        """What ``sweep --json`` writes."""
        return {
            "schema_version": SCHEMA_VERSION,
            **self.about,
            "own": asdict(self.own),
            "varied": list(self.varied),
            "points": [
                {
                    "target": row.point.target,
                    "schedule": row.point.schedule,
                    "steps": row.point.steps,
                    "settings": dict(row.point.settings),
                    "lowered_again": row.lowered_again,
                    "fits": row.timed is not None,
                    "problem": row.problem,
                    "change_percent": self.change_percent(row),
                    **(asdict(row.timed) if row.timed else dict.fromkeys(asdict(self.own))),
                }
                for row in self.rows
            ],
        }


def sweep(
    bundle: Bundle,
    settings: Sequence[str] = (),
    *,
    targets: Sequence[str] = (),
    schedules: Sequence[str] = (),
    steps: Sequence[int] = (),
    lower_again: bool = False,
    verify: bool = True,
    progress: Say = silent,
) -> Sweep:
    """Time ``bundle`` on every combination; what is left out is the bundle's own.

    ``settings`` are ``KEY=V1,V2,...`` texts (``runtime.settings.parse_choices``). All points are
    checked before the first is timed. Raises UsageError and InputError for what cannot be.
    """
    kept = KeptBundle.of(bundle)
    points = _points(kept, settings, targets, schedules, steps, lower_again)
    own = profile_bundle(kept, verify=verify, progress=progress)
    rows: list[Row] = []
    last: Profile | None = None
    for number, (point, scenario) in enumerate(points, 1):
        progress(f"timing point {number} of {len(points)}")
        again = lowers_again(scenario, kept.manifest)
        try:
            last = _profile(kept, scenario, last, verify)
        except DoesNotFitError as error:
            rows.append(Row(point, again, None, str(error)))
        else:
            rows.append(Row(point, again, Timed.of(last)))
    return Sweep(about(own), Timed.of(own), tuple(rows))


def _points(
    bundle: Bundle,
    settings: Sequence[str],
    targets: Sequence[str],
    schedules: Sequence[str],
    steps: Sequence[int],
    lower_again: bool,
) -> list[tuple[Point, Scenario]]:
    """All combinations, the steps last: they change no program."""
    found: list[tuple[Point, Scenario]] = []
    for target in targets or (None,):
        base = scenario_of(bundle, target=target)
        choices = parse_choices(settings, base.machine)
        count = prod(map(len, choices.values())) * max(len(schedules), 1) * max(len(steps), 1)
        if len(found) + count > _MOST_POINTS:
            raise UsageError(f"that are more than {_MOST_POINTS:,} points; leave some out.")
        for schedule, values, repeats in product(
            schedules or (None,), product(*choices.values()), steps or (None,)
        ):
            chosen = dict(zip(choices, values, strict=True))
            scenario = scenario_of(
                bundle,
                settings=[f"{key}={value!r}" for key, value in chosen.items()],
                target=base.target,
                schedule=schedule,
                steps=repeats,
                lower_again=lower_again,
            )
            point = Point(base.machine.name, scenario.schedule, scenario.steps, chosen)
            found.append((point, scenario))
    return found


def _profile(bundle: Bundle, scenario: Scenario, last: Profile | None, verify: bool) -> Profile:
    """The profile of a scenario; that of the one before serves where only steps differ."""
    if last and _program_of(last.scenario) == _program_of(scenario):
        components = tuple(
            replace(c, evaluations=scenario.evaluations(bundle, c.name)) for c in last.components
        )
        return replace(last, scenario=scenario, components=components)
    return profile_bundle(bundle, scenario, verify=verify)


def _program_of(scenario: Scenario) -> tuple[str, str]:
    return scenario.machine.digest, scenario.schedule


def text_of(varied: str, value: int | float | str) -> str:
    """Its value, as people write it."""
    return value if isinstance(value, str) else setting_text(varied, value)
