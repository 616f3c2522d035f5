"""Files that appear whole or not at all, and outlive a power cut once they are there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefusion.compiler.bundle.archive import disk_error


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
