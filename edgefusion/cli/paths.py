"""Options and arguments that name files: each says whether the command reads or writes there.

``Reads()``, ``Writes(kind)`` or ``WritesIn(files)`` in a parameter's annotation is all that a
command does; before it works, ``guarded`` checks what it was given.
"""

from __future__ import annotations

import inspect
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any

from edgefusion.runtime.claims import Output, claim_outputs
from edgefusion.runtime.destinations import own_descriptor
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Reads:
    """A file or folder that is read, where the value names one: it may be another name, too."""


@dataclass(frozen=True, slots=True)
class Writes:
    """A file that is written, of ``kind`` (which its path may decide), or of one that the command
    itself claims with its further outputs; with ``stdout``, - stands for the standard output."""

    kind: Kind | Callable[[Path], Kind] | None = None
    stdout: bool = False

    def kind_at(self, path: Path) -> Kind | None:
        """The kind of what is written to ``path``."""
        return self.kind(path) if callable(self.kind) else self.kind


@dataclass(frozen=True, slots=True)
class WritesIn:
    """A folder that is written in; ``files`` are those known beforehand, by name."""

    files: Mapping[str, Kind] = field(default_factory=dict)


Role = Reads | Writes | WritesIn


def is_stdout(target: str | None) -> bool:
    """Whether ``target`` is the standard output, which then holds that one document alone."""
    return target is not None and (target == STDOUT or own_descriptor(Path(target)) == 1)


def roles(command: Callable[..., Any]) -> dict[str, Role]:
    """What the parameters of a command's function are for, those that name files."""
    found: dict[str, Role] = {}
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        for mark in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(mark, Role):
                found[name] = mark
    return found


def guarded(command: Any) -> Any:
    """``command`` of typer, or all those of a group, which refuse to write what they read."""
    for each in getattr(command, "commands", {}).values():
        guarded(each)
    run = command.callback
    if run is not None:
        marked = roles(inspect.unwrap(run))

        @wraps(run)
        def checked(**values: Any) -> Any:
            outputs = _check({name: (role, values.get(name)) for name, role in marked.items()})
            with _replacements_told(outputs):
                return run(**values)

        command.callback = checked
    return command


@contextmanager
def _replacements_told(outputs: Sequence[Output]) -> Iterator[None]:
    """Say on stderr which files were there before and are others now. As compilers do, commands
    replace an output of the same kind; nobody has to find that out by himself."""
    paths = dict.fromkeys(output.path for output in outputs)
    before = {path: state for path in paths if (state := _state(path)) is not None}
    try:
        yield
    finally:
        for path, state in before.items():
            if _state(path) not in (state, None):
                written = datetime.fromtimestamp(state[-1] / 1e9).astimezone()
                sys.stderr.write(f"replaced {path}, written {written:%Y-%m-%d %H:%M:%S}\n")


def _state(path: Path) -> tuple[int, int, int] | None:
    """What tells a file that holds something from one that took its place; the last is the time of
    writing in nanoseconds."""
    try:
        found = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _check(given: Mapping[str, tuple[Role, Any]]) -> list[Output]:
    """The files that will be written, as far as they are known.

    Raises UsageError for outputs that are inputs, each other, or of another kind, InputError for
    places that cannot be written."""
    from edgefusion.runtime.files import disk_errors

    outputs, folders, inputs, on_stdout = [], [], [], []
    for name, (role, value) in given.items():
        values = value if isinstance(value, list | tuple) else [value]
        for path in [Path(each) for each in values if each is not None]:
            if isinstance(role, Reads):
                inputs += list(_read(path))
            elif isinstance(role, WritesIn):
                folders.append(path)
                outputs += [Output(path / file, kind) for file, kind in role.files.items()]
            elif role.stdout and is_stdout(str(path)):
                on_stdout.append(name)
            else:
                outputs.append(Output(path, role.kind_at(path)))
    if len(on_stdout) > 1:
        raise UsageError("two documents cannot both go to the standard output; name a file of one.")
    if outputs or folders:
        with disk_errors(outputs[0].path if outputs else folders[0]):
            claim_outputs(outputs, inputs, folders)
    return outputs


def _read(path: Path) -> Iterator[Path]:
    """What a command reads that is given ``path``: an ONNX model's weights may be other files."""
    yield path
    if path.suffix == ".onnx" and path.is_file():
        from edgefusion.models.onnx_files import external_files

        yield from external_files(path)
