"""The folder that a stage works in and leaves behind, whole or not at all.

Beside the output NAME lies ``.NAME.partial`` while a stage works; it is renamed when all is done.
It holds the settings, journals of what is done, and images; an interrupted stage goes on from
there, and gives the same bytes as one that was not interrupted.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edgefusion.models.data.imagefolder import METADATA
from edgefusion.models.data.journal import Record, journaled
from edgefusion.models.data.report import Report
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.files import kept_on_disk_errors, write_whole
from edgefusion.runtime.partials import remove_leftovers_below
from edgefusion.runtime.progress import Say, silent

REPORT, DROPPED = "report.json", "dropped.jsonl"
_WORK = ".work"
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage's body gives: ``rows`` of metadata.jsonl, the ``dropped`` samples (key, reason
    and whatever explains it), and figures of its own. ``listing`` is another file for the rows
    where they are not those of an image folder."""

    rows: Sequence[Record]
    dropped: Sequence[Record]
    captions_cut: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    listing: str = METADATA


@dataclass(frozen=True, slots=True)
class Stage:
    """An open stage; its files are named relative to the output folder."""

    folder: Path
    say: Say

    def mapped(
        self,
        name: str,
        items: Iterable[Item],
        work: Callable[[int, Sequence[Item]], list[Record]],
        *,
        chunk: int,
    ) -> list[Record]:
        """``work`` on all items, resumed; see ``journaled``."""
        path = self.folder / _WORK / f"{name}.jsonl"
        return journaled(
            path,
            items,
            work,
            chunk=chunk,
            tell=lambda done: self.say(f"{name}: {done} of the samples"),
        )

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which appears whole or not at all."""
        write_whole(self.folder / name, content)

    def link(self, name: str, path: Path) -> bool:
        """Give ``path`` this second name; False where the file system does not do that."""
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        try:
            os.link(path, place)
        except OSError:
            return False
        return True


def run_stage(
    output: Path,
    kind: str,
    source: str,
    digest: str,
    settings: Mapping[str, Any],
    body: Callable[[Stage], Result],
    *,
    say: Say = silent,
) -> Report:
    """Run ``body`` and leave the folder ``output``, with ``report.json``, ``metadata.jsonl`` and
    ``dropped.jsonl``. A finished one with the same settings and source is left as it is.

    Raises UsageError for an output made otherwise, InputError or DoesNotFitError for a place that
    cannot be written, and another process at work there.
    """
    identity = json.loads(
        _document({"stage": kind, "source_digest": digest, "settings": dict(settings)})
    )
    if output.exists():
        return _finished(output, identity)
    folder = output.with_name(f".{output.name}.partial")
    with kept_on_disk_errors(folder), _locked(folder):
        remove_leftovers_below(folder)
        _begin(folder, identity)
        stage = Stage(folder, say)
        result = body(stage)
        report = _report(kind, source, settings, result)
        stage.write(result.listing, _lines(result.rows))
        stage.write(DROPPED, _lines(result.dropped))
        stage.write(REPORT, _document(report.to_json() | {"source_digest": digest}))
        folder.rename(output)
        shutil.rmtree(output / _WORK)
    return report


def _report(kind: str, source: str, settings: Mapping[str, Any], result: Result) -> Report:
    reasons = Counter(str(record["reason"]) for record in result.dropped)
    return Report(
        stage=kind,
        source=source,
        settings=dict(settings),
        samples_in=len(result.rows) + len(result.dropped),
        samples_out=len(result.rows),
        dropped=dict(sorted(reasons.items())),
        captions_cut=result.captions_cut,
        facts=dict(result.facts),
    )


def _finished(output: Path, identity: Mapping[str, Any]) -> Report:
    try:
        found = json.loads((output / REPORT).read_bytes())
        same = all(found[key] == value for key, value in identity.items())
        del found["source_digest"]
        report = Report(**found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{output} exists and is no result of this command; name another folder with -o."
        ) from error
    if not same:
        raise UsageError(
            f"{output} was made with other settings or from another source (see {REPORT} in it). "
            "Name another folder with -o, or remove it."
        )
    shutil.rmtree(output / _WORK, ignore_errors=True)
    return report


def _begin(folder: Path, identity: Mapping[str, Any]) -> None:
    settings = folder / _WORK / "settings.json"
    if settings.is_file() and settings.read_bytes() != _document(identity):
        raise UsageError(
            f"{folder} holds the unfinished work of a run with other settings or another source "
            f"(see {settings}). Repeat that command to finish it, or remove the folder."
        )
    write_whole(settings, _document(identity))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process, however it ends."""
    (folder / _WORK).mkdir(parents=True, exist_ok=True)
    with (folder / _WORK / "lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process is at work in {folder}; wait for it.") from error
        yield


def _document(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def split(records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
    """The kept records, and those with a reason."""
    kept: list[Record] = []
    dropped: list[Record] = []
    for record in records:
        (dropped if "reason" in record else kept).append(record)
    return kept, dropped
