"""A suite: a TOML file of what is timed, and how far a figure may lie from its baseline.

    schema_version = 1
    schedules = ["serial", "mlt"]          # of every entry that names none of its own

    [[entry]]
    name = "tiny"
    source = "tiny-test"                   # or bundle = "tiny.npub"
    steps = [1, 2]

    [entry.what_if]
    half-sram = ["sram=0.5x"]

    [tolerance]                            # zero for what no pattern names
    "*.latency_ps" = { percent = 0.5, only_more = true }

Files are named from the suite's folder. Unknown keys are errors, so that a misspelt one cannot be
ignored.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import Field

from edgefusion.compiler.schedule.schedule import SCHEDULES
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.validation import Strict, Whole, validated
from edgefusion.toolchain.compiling.source_options import Positive, SourceOptions
from edgefusion.toolchain.suites.figures import metric_names

SUITE_VERSION = 1
_NAME = re.compile(r"\w[\w.+-]*")
_SCHEDULES = tuple(schedule.name for schedule in SCHEDULES)
_SOME = "pipeline.latency_ps, unet.busy_ps.dma, *.dram_bytes_by_cause.*"
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Tolerance(Strict):
    """How far a metric may lie from its baseline: ``percent`` of it, or ``absolute`` in the
    metric's own unit, whichever is more; with ``only_more`` any distance below."""

    percent: NotNegative = 0.0
    absolute: Whole = 0
    only_more: bool = False

    def allows(self, before: int, after: int) -> bool:
        """Whether ``after`` is near enough to its baseline ``before``."""
        if self.only_more and after < before:
            return True
        return abs(after - before) <= max(self.absolute, self.percent / 100 * before)


EXACT = Tolerance()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(SourceOptions):
    """One bundle or source, and the axes over which it is timed. Empty axes are one case: what the
    bundle was compiled for, or what ``compile`` takes when nothing is said."""

    name: str
    bundle: str = ""
    targets: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    steps: tuple[Positive, ...] = ()
    what_if: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Settings of machine parameters by the name of the case; timed besides the machine itself."""
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _File(Strict):
    schema_version: Whole
    entry: tuple[Entry, ...]
    baselines: str = ""
    targets: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    steps: tuple[Positive, ...] = ()
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """One timing of an entry. ``target``, ``schedule`` and ``steps`` are None where the file leaves
    them to the bundle."""

    name: str
    entry: Entry
    target: str | None
    schedule: str | None
    steps: int | None
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite that was read: ``baselines`` is the folder of its baselines, ``cases`` are in the
    order of the file."""

    path: Path
    baselines: Path
    cases: tuple[Case, ...]
    tolerance: Mapping[str, Tolerance]

    @property
    def name(self) -> str:
        """The file's name, without its ending."""
        return suite_name(self.path)

    def tolerance_of(self, case: Case, metric: str) -> Tolerance:
        """That of the first pattern that matches, the entry's own first."""
        for patterns in (case.entry.tolerance, self.tolerance):
            for pattern, tolerance in patterns.items():
                if fnmatchcase(metric, pattern):
                    return tolerance
        return EXACT

    def resolve(self, name: str) -> str:
        """``name`` as a path from the suite's folder where something lies there, else as it is."""
        beside = self.path.parent / Path(name).expanduser()
        return str(beside) if beside.exists() else name


def suite_name(path: Path) -> str:
    """``ours`` of ``ours.toml`` and of ``ours.npu-suite.toml``."""
    return path.name.removesuffix(".toml").removesuffix(".npu-suite")


def load_suite(path: Path) -> Suite:
    """Read a suite. Raises InputError, naming the key, for whatever is not understood, and for
    cases of the same name."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no suite {path}. Check the path.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the suite {path}: {error}") from error
    version = data.get("schema_version")
    if version != SUITE_VERSION:
        raise InputError(
            f"suite {path}: expected schema_version = {SUITE_VERSION}, found {version!r}."
        )
    file = validated(_File, data, f"suite {path}")
    if not file.entry:
        raise InputError(f"suite {path} has no [[entry]]; expected one or more.")
    for name in file.schedules:
        _check_schedule(f"suite {path}", name)
    for entry in file.entry:
        _check(path, entry)
        _check_tolerance(f"suite {path}, entry {entry.name!r}", entry.tolerance)
    _check_tolerance(f"suite {path}", file.tolerance)
    cases = tuple(case for entry in file.entry for case in _cases(file, entry))
    names = [case.name for case in cases]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"suite {path}: several cases are called {', '.join(twice)}. Give entries different "
            "names, and name each target, schedule and number of steps once."
        )
    folder = file.baselines or f"baselines/{suite_name(path)}"
    return Suite(path, path.parent / folder, cases, file.tolerance)


def _check(path: Path, entry: Entry) -> None:
    where = f"suite {path}, entry {entry.name!r}"
    for name in (entry.name, *entry.what_if):
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{where}: {name!r} cannot name a case; expected letters, digits, and . + - _ "
                "after the first of them."
            )
    if bool(entry.bundle) == bool(entry.source):
        raise InputError(f"{where}: expected either bundle or source, as in source = 'tiny-test'.")
    if entry.bundle and (given := [key for key in entry.chosen if key != "components"]):
        raise InputError(f"{where}: {', '.join(given)} is for sources; a bundle is compiled.")
    for name in entry.schedules:
        _check_schedule(where, name)


def _check_schedule(where: str, name: str) -> None:
    if name not in _SCHEDULES:
        raise InputError(
            f"{where}: unknown schedule {name!r}; expected one of {', '.join(_SCHEDULES)}."
        )


def _check_tolerance(where: str, patterns: Iterable[str]) -> None:
    known = metric_names()
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = get_close_matches(pattern, known, 3)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Some are {_SOME}."
            raise InputError(f"{where}: tolerance {pattern!r} matches no metric. {hint}")


def _cases(file: _File, entry: Entry) -> list[Case]:
    """All combinations; a case is named by its entry and by each axis that the file gives."""
    found = []
    for target in entry.targets or file.targets or (None,):
        for schedule in entry.schedules or file.schedules or (None,):
            for steps in entry.steps or file.steps or (None,):
                axes = [entry.name]
                axes += (
                    [Path(target).stem if target.endswith(".toml") else target] if target else []
                )
                axes += [schedule] if schedule else []
                axes += [f"{steps}-step" if steps == 1 else f"{steps}-steps"] if steps else []
                found.append(Case("/".join(axes), entry, target, schedule, steps, ()))
                found += [
                    Case("/".join((*axes, label)), entry, target, schedule, steps, settings)
                    for label, settings in entry.what_if.items()
                ]
    return found
