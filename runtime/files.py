"""Files that appear whole or not at all, and what the file system refuses as errors for users."""

from __future__ import annotations

import errno
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from edgefusion.runtime.claims import Output
from edgefusion.runtime.destinations import destination
from edgefusion.runtime.errors import DoesNotFitError, EdgeFusionError, InputError, UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.partials import (
    exchange,
    lock_on,
    partial_file,
    partial_folder,
    remove_leftovers,
)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NUMPY_CUT_OFF = re.compile(r"\d+ requested and \d+ written|problem writing element \d+ to file")
"""What ndarray.tofile says, without a number, when the system takes less than it has."""


@contextmanager
def replacing(paths: Sequence[Path], kind: Kind) -> Iterator[tuple[Path, ...]]:
    """Empty files beside ``paths``: they take these places when the block ends well, and are gone
    when it does not, for whatever reason. Files of ``kind`` are to be written to them.

    Links are followed; what is no regular file, as a pipe, is given the whole content at the end.
    Raises UsageError for a place that holds a file of another kind, DoesNotFitError for a full
    disk, InputError for a place that cannot be written, before the block is entered where that
    shows.
    """
    with ExitStack() as stack:
        places, partial = [], []
        for path in paths:
            with disk_errors(path):
                place = Output(path, kind).destination()
                folder = place.place.parent if place.is_regular else Path(tempfile.gettempdir())
                stack.enter_context(_folder(folder))
                remove_leftovers(folder)
                partial.append(stack.enter_context(partial_file(folder)))
                places.append(place)
        yield tuple(partial)
        for path, place, whole in zip(paths, places, partial, strict=True):
            with disk_errors(path):
                place.put(whole)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside ``path`` and rename it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = destination(path)
    with partial_file(place.place.parent) as partial:
        partial.write_bytes(content)
        place.put(partial)


def put_together(files: Mapping[Path, Path]) -> None:
    """Rename finished files (keys) to their places (values), of which the last one refers to the
    others: it is absent while they change, so that it never refers to those of another time.

    Raises OSError.
    """
    places = [destination(path) for path in files.values()]
    if len(places) > 1 and places[-1].is_regular:
        places[-1].place.unlink(missing_ok=True)
    for whole, place in zip(files, places, strict=True):
        place.put(whole)


@contextmanager
def replacing_folder(folder: Path, mark: str) -> Iterator[Path]:
    """An empty folder beside ``folder``, which it replaces when the block ends well; it is gone
    when the block does not. ``mark`` is the file by which a folder of this kind is known.

    Raises what ``check_folder`` does, and OSError.
    """
    check_folder(folder, mark)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(folder.parent) as partial:
        whole = partial / "whole"
        whole.mkdir()
        yield whole
        if folder.exists():
            exchange(whole, folder)  # what was there goes with ``partial``
        else:
            whole.rename(folder)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One process at a time works in ``folder``. Raises InputError for a second one."""
    with lock_on(folder) as mine:
        if not mine:
            raise InputError(f"another process is at work in {folder}; wait for it.")
        yield


def check_folder(folder: Path, mark: str) -> None:
    """Raises UsageError for something there that is neither empty nor a folder with ``mark``."""
    if folder.is_dir() and ((folder / mark).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise UsageError(
            f"{folder} would be replaced, but it holds no {mark}, so it is something else. It is "
            "left as it is; name another place, or remove it first."
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into errors that a user can act on."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path | None = None) -> EdgeFusionError:
    """What a user can act on; ``path`` is the place where the error itself names none."""
    place = error.filename or path or "a file"
    if error.errno in _FULL or (error.errno is None and _NUMPY_CUT_OFF.search(str(error))):
        reason = error.strerror or error
        return DoesNotFitError(
            f"the disk is full: writing {place} failed ({reason}). Nothing was left "
            "behind. Free some space, or name another place with -o, --work-dir or TMPDIR."
        )
    return InputError(
        f"cannot use {place}: {error.strerror or error}. Nothing was left behind. Check the place "
        "and its permissions, or name another one."
    )


@contextmanager
def kept_on_disk_errors(folder: Path) -> Iterator[None]:
    """For work that is resumed from ``folder``: what the file system refuses, as errors that say
    how to go on (DoesNotFitError for a full disk, else InputError)."""
    try:
        yield
    except OSError as error:
        told = disk_error(error)
        if error.errno is None and not isinstance(told, DoesNotFitError):  # a library's own
            raise
        raise type(told)(
            f"{error.strerror or error} ({error.filename or folder}). What was done is kept in "
            f"{folder}: repeat the command, once there is space and permission, and it goes on."
        ) from error


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """``path`` as a folder; those made for it are removed again if the block fails and leaves them
    empty."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for each in missing:
            with suppress(OSError):
                each.rmdir()
        raise
