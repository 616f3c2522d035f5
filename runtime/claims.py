"""What a command will write, checked before it works: no output is an input, or another output, or
takes the place of a file of another kind."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefusion.runtime.destinations import Destination, destination
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind, kind_of


@dataclass(frozen=True, slots=True)
class Output:
    """A file that will be written, and the kind that it will be of; None: not known yet."""

    path: Path
    kind: Kind | None

    def destination(self) -> Destination:
        """Where the path leads.

        Raises UsageError for a file of another kind, and what ``destinations.destination`` does.
        """
        found = destination(self.path)
        if self.kind and found.exists and found.is_regular:
            there = kind_of(found.place)
            if there not in (self.kind, Kind.EMPTY):
                raise UsageError(
                    f"{self.path} is {there}, and {self.kind} would be written there; it is left "
                    "as it is. Name another file, or remove that one first."
                )
        return found


def claim_outputs(
    outputs: Sequence[Output], inputs: Iterable[Path], folders: Sequence[Path] = ()
) -> None:
    """Check ``outputs``, and ``folders`` that files will be written in, against each other and
    against ``inputs``, files and folders that exist or not; no file of an input folder is written.

    Raises UsageError, and OSError for a place that cannot be looked at.
    """
    read = [path for path in inputs if path.exists()]
    for path in folders:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is no folder, and files would be written in it.")
    for path in (*(output.path for output in outputs), *folders):
        for other in read:
            _check_apart(path, other)
    _check_different([output.path for output in outputs])
    for output in outputs:
        output.destination()


def _check_apart(path: Path, read: Path) -> None:
    """Raises UsageError if the output ``path`` is the input ``read`` or lies in it."""
    if path.exists() and path.samefile(read) and not _is_device(path):
        raise UsageError(
            f"{path} would be written, but it is read: it is the same as the input {read}. Name "
            "another place."
        )
    if not read.is_dir():
        return
    inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(read))
    if inside or (path.is_file() and _holds(read, path)):
        raise UsageError(
            f"{path} would be written, but it lies in {read}, which is read and would become "
            "another input. Name a place outside."
        )


def _holds(folder: Path, file: Path) -> bool:
    """Whether ``file`` is in ``folder`` under another name: a hard link, or a link's target."""
    wanted = file.stat()
    for place, _, names in os.walk(folder):
        for name in names:
            other = Path(place, name)
            if other.exists() and os.path.samestat(other.stat(), wanted):
                return True
    return False


def _check_different(paths: Sequence[Path]) -> None:
    for number, path in enumerate(paths):
        for other in paths[:number]:
            same = os.path.realpath(path) == os.path.realpath(other)
            if (same or _is_same(path, other)) and not _is_device(path):
                raise UsageError(
                    f"{path} and {other} are one file, and two would be written; name different "
                    "ones."
                )


def _is_same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def _is_device(path: Path) -> bool:
    """Devices such as /dev/null may be named more than once."""
    return path.exists() and stat.S_ISCHR(path.stat().st_mode)
