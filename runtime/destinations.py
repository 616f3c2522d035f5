"""Where a path that is to be written leads: a regular file, there or not, or something that is
written through: a pipe, a device, an open descriptor of this process (``/dev/fd/63``)."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgefusion.runtime.errors import UsageError

_CHUNK_BYTES = 1 << 20
_LINKS = 40
"""That are followed, as by Linux."""


@dataclass(frozen=True, slots=True)
class Destination:
    """``place`` with symbolic links followed; ``descriptor`` where it is one of this process."""

    place: Path
    exists: bool
    is_regular: bool
    descriptor: int | None = None

    def put(self, whole: Path) -> None:
        """Give this place to the finished file ``whole``, or copy it through.

        A reader that goes away early had what it wanted. Raises OSError.
        """
        if not self.is_regular:
            with suppress(BrokenPipeError):
                self._copy_through(whole)
            return
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            before = self.place.stat()
            with suppress(PermissionError):
                os.chown(whole, before.st_uid, before.st_gid)
            whole.chmod(stat.S_IMODE(before.st_mode))
        whole.replace(self.place)

    def _copy_through(self, whole: Path) -> None:
        if self.descriptor is None:
            sink = os.open(self.place, os.O_WRONLY)
        else:
            sys.stdout.flush()  # what was printed before comes first
            sink = os.dup(self.descriptor)
        try:
            with whole.open("rb") as source:
                while chunk := source.read(_CHUNK_BYTES):
                    left = memoryview(chunk)
                    while left:
                        left = left[os.write(sink, left) :]
        finally:
            os.close(sink)


def destination(path: Path) -> Destination:
    """Where ``path`` leads.

    Raises UsageError for folders and what else no file can be written to, OSError for a place that
    cannot be looked at or must not be written.
    """
    descriptor = own_descriptor(path)
    if descriptor is not None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "it is open for reading only", str(path))
        return Destination(path, True, False, descriptor)
    place = Path(os.path.realpath(path))
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return Destination(place, False, True)
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder, and a file would be written; name a file in it.")
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise UsageError(f"{path} is a disk or a socket; name a file, a pipe or another device.")
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected", str(path))
    return Destination(place, True, stat.S_ISREG(mode))


def own_descriptor(path: Path) -> int | None:
    """The open file of this process that ``path`` names, as ``/dev/stdout`` does; None for other
    paths."""
    seen = path.absolute()
    for _ in range(_LINKS):
        parent = Path(os.path.realpath(seen.parent))
        if seen.name.isdecimal() and parent in (Path(f"/proc/{os.getpid()}/fd"), Path("/dev/fd")):
            return int(seen.name)
        if not seen.is_symlink():
            return None
        seen = parent / seen.readlink()
    return None
