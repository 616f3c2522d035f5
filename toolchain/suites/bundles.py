"""The bundle of each case: a file, or a source that is compiled once and kept in a cache.

A cached bundle is named by everything that its programs follow from: the content of the source, the
options, the target, and this tool's own code and exporters. So one that is stale is never found.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.partials import partial_folder
from edgefusion.runtime.progress import Say, silent
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.compiling.code_digest import code_digest
from edgefusion.toolchain.suites.suite import Case, Entry, Suite

if TYPE_CHECKING:
    from edgefusion.models.source import Source

CACHE_VARIABLE = "EDGEFUSION_CACHE"


def cache_folder() -> Path:
    """Where compiled sources are kept when nothing is said: ``$EDGEFUSION_CACHE``, or the user's
    folder for caches."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "edgefusion"


class Bundles:
    """Opens the bundles of a suite's cases, compiling what is missing in ``folder``. ``given`` are
    bundles to take in place of an entry's own, by the entry's name."""

    def __init__(
        self,
        suite: Suite,
        *,
        folder: Path | None = None,
        given: Mapping[str, Path] | None = None,
        progress: Say = silent,
    ) -> None:
        self._suite, self._say = suite, progress
        self._folder = folder or cache_folder()
        self._given = dict(given or {})
        self._open: dict[Path, Bundle] = {}
        self._sources: dict[str, Source] = {}
        known = {case.entry.name for case in suite.cases}
        if unknown := sorted(self._given.keys() - known):
            raise UsageError(
                f"{suite.path} has no entry {', '.join(unknown)}; it has "
                f"{', '.join(sorted(known))}."
            )

    def check(self, cases: Sequence[Case]) -> None:
        """Raises InputError for a bundle that is not there, before anything is timed."""
        for case in cases:
            path = self._file(case)
            if path is not None and not path.is_file():
                raise InputError(
                    f"suite {self._suite.path}, entry {case.entry.name!r}: there is no bundle "
                    f"{path}. Compile it, or name another file."
                )

    def of(self, case: Case) -> Bundle:
        """The case's bundle. Raises what compiling and opening raise."""
        path = self._file(case)
        if path is None:
            path = self._compiled(case)
        if path not in self._open:
            # Weights are not looked at by anything that is timed
            self._open[path] = Bundle.open(path, verify=False)
        return self._open[path]

    def target(self, case: Case) -> str | None:
        """The case's target: a name, or a path from where the tool runs."""
        return None if case.target is None else self._suite.resolve(case.target)

    def _file(self, case: Case) -> Path | None:
        if given := self._given.get(case.entry.name):
            return given
        bundle = case.entry.bundle
        return self._suite.path.parent / Path(bundle).expanduser() if bundle else None

    def _compiled(self, case: Case) -> Path:
        """The cached bundle, compiled with those of the entry's other schedules if it is not there
        or not whole."""
        wanted = self._place(case)
        if _is_whole(wanted):
            return wanted
        places = {
            schedule_of(other): self._place(other)
            for other in self._suite.cases
            if other.entry is case.entry
            and (other.target, other.steps) == (case.target, case.steps)
        }
        missing = {name: path for name, path in places.items() if not _is_whole(path)}
        self._compile(case, missing)
        for path in missing.values():
            _remove_older(path)
        return wanted

    def _compile(self, case: Case, outputs: Mapping[str, Path]) -> None:
        from edgefusion.toolchain.compiling.compile_source import DEFAULT_TARGET, compile_source

        entry = self._located(case)
        self._say(f"compiling {case.entry.source} ({', '.join(outputs)})")
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        with partial_folder(self._folder) as work:
            compile_source(
                entry.source,
                output=outputs,
                target=self.target(case) or DEFAULT_TARGET,
                schedules=tuple(outputs),
                steps=case.steps,
                work_dir=work,
                calibration_prompts=0,
                progress=self._say,
                **entry.arguments,
            )

    def _place(self, case: Case) -> Path:
        """Where the case's bundle is kept: what it is, then the digest of what it follows from."""
        from edgefusion.toolchain.compiling.compile_source import DEFAULT_TARGET

        entry, source = self._located(case), self._source(case)
        target = self.target(case) or DEFAULT_TARGET
        place = str(source.path.resolve()) if source.path else source.name
        options = [entry.chosen | {"source": place}, target, schedule_of(case), case.steps]
        state = [
            source.digest,
            load_target(target).machine.digest,
            entry.recipe_text(),
            code_digest(),
        ]
        label = re.sub(r"[^\w.-]+", "-", f"{source.name}-{schedule_of(case)}")
        return self._folder / f"{label}-{_digest(options, 8)}-{_digest([options, state], 16)}.npub"

    def _source(self, case: Case) -> Source:
        name = case.entry.name
        if name not in self._sources:
            self._sources[name] = self._located(case).resolve()
        return self._sources[name]

    def _located(self, case: Case) -> Entry:
        """The case's entry, with files named from where the tool runs."""
        return case.entry.located(self._suite.resolve)


def schedule_of(case: Case) -> str:
    """The schedule that a source is compiled with for the case."""
    from edgefusion.toolchain.compiling.compile_source import DEFAULT_SCHEDULE

    return case.schedule or DEFAULT_SCHEDULE


def _digest(value: object, digits: int) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:digits]


def _is_whole(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        Bundle.open(path, verify=False)
    except InputError:
        return False
    return True


def _remove_older(path: Path) -> None:
    """Bundles of the same source and options that can never be found again."""
    start = path.stem.rpartition("-")[0]
    for other in path.parent.glob(f"{start}-*.npub"):
        if other != path and re.fullmatch(r"[0-9a-f]{16}", other.stem.rpartition("-")[2]):
            other.unlink(missing_ok=True)
