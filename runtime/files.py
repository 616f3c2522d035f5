"""Files that appear whole or not at all, and what the file system refuses as errors for users."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edgefusion.runtime.errors import DoesNotFitError, EdgeFusionError, InputError


@contextmanager
def replacing(paths: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """Files beside ``paths``, empty at first: they take these places when the block ends well, and
    are gone when it does not, for whatever reason.

    Raises DoesNotFitError for a full disk, InputError for a place that cannot be written, both
    before the block is entered where that shows.
    """
    partial = tuple(path.with_name(f".{path.name}.{os.getpid()}.partial") for path in paths)
    try:
        for path, temporary in zip(paths, partial, strict=True):
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.touch()
        yield partial
        for temporary, path in zip(partial, paths, strict=True):
            with disk_errors(path):
                temporary.replace(path)
    finally:
        for temporary in partial:
            with suppress(OSError):  # absent, or in a folder that could not be made
                temporary.unlink()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into errors that a user can act on."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path | None = None) -> EdgeFusionError:
    """What a user can act on; ``path`` is the place where the error itself names none."""
    place = error.filename or path or "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DoesNotFitError(
            f"the disk is full: writing {place} failed ({error.strerror}). Nothing was left "
            "behind. Free some space, or name another place with -o, --work-dir or TMPDIR."
        )
    return InputError(
        f"cannot use {place}: {error.strerror or error}. Nothing was left behind. Check the place "
        "and its permissions, or name another one."
    )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside ``path`` and rename it; a killed process leaves ``.NAME.partial``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def kept_on_disk_errors(folder: Path) -> Iterator[None]:
    """For work that is resumed from ``folder``: what the file system refuses, as errors that say
    how to go on (DoesNotFitError for a full disk, else InputError)."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a library's own, no answer of the file system
            raise
        raise type(disk_error(error))(
            f"{error.strerror or error} ({error.filename or folder}). What was done is kept in "
            f"{folder}: repeat the command, once there is space and permission, and it goes on."
        ) from error
