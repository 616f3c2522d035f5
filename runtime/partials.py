"""Files and folders of a process at work, which the next one removes if this one is killed.

Their names are recognisable, ``.edgefusion-<16 hex digits>.partial``, and their process holds a
lock on each (flock, which ends with the process however that ends): one whose lock can be taken is
left over from a process that is dead, one whose lock is held is never touched.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of renameat2(2)."""
_NAME = re.compile(r"\.edgefusion-[0-9a-f]{16}\.partial")


@contextmanager
def partial_file(folder: Path) -> Iterator[Path]:
    """A new empty file in ``folder``; it may be renamed, and is gone after the block otherwise.

    Raises OSError where it cannot be made.
    """
    path, descriptor = _held(folder, _new_file)
    try:
        yield path
    finally:
        with suppress(OSError):  # renamed, or removed with its folder
            path.unlink()
        os.close(descriptor)


@contextmanager
def partial_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder in ``parent``, or in the system's folder for temporary files; gone after the
    block. What dead processes left in ``parent`` is removed first.

    Raises OSError where it cannot be made.
    """
    parent = parent or Path(tempfile.gettempdir())
    remove_leftovers(parent)
    path, descriptor = _held(parent, _new_folder)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what dead processes of this user left in ``folder``, if it exists."""
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if _NAME.fullmatch(entry.name)]
    except OSError:
        return
    for path in found:
        with suppress(OSError):
            _remove_if_dead(path)


def remove_leftovers_below(folder: Path) -> None:
    """``remove_leftovers`` in ``folder`` and all folders in it."""
    for place, _, names in os.walk(folder):
        if any(_NAME.fullmatch(name) for name in names):
            remove_leftovers(Path(place))


@contextmanager
def lock_on(path: Path) -> Iterator[bool]:
    """Whether this process alone holds the file or folder ``path`` while the block runs.

    True, too, where the file system knows no locks. Raises OSError if ``path`` cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _lock(descriptor, fcntl.LOCK_NB, unknown=True)
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> None:
    """Two folders change places in one step, where the system can do that. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(libc, "renameat2"):
        if libc.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0:
            return
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(other))
    away = one.with_name(f"{one.name}.old")
    other.rename(away)
    one.rename(other)
    away.rename(one)


def _held(folder: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """A new path and the descriptor that holds its lock."""
    while True:
        path = folder / f".edgefusion-{secrets.token_hex(8)}.partial"
        descriptor = make(path)
        _lock(descriptor, 0, unknown=True)
        with suppress(FileNotFoundError):
            if os.path.samestat(path.lstat(), os.fstat(descriptor)):
                return path, descriptor
        os.close(descriptor)  # another process took it for dead before it was locked


def _new_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _new_folder(path: Path) -> int:
    path.mkdir(mode=0o700)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _remove_if_dead(path: Path) -> None:
    if path.lstat().st_uid != os.geteuid():
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not _lock(descriptor, fcntl.LOCK_NB, unknown=False):
            return
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, options: int, *, unknown: bool) -> bool:
    """Whether the lock is ours now; ``unknown`` where the file system knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | options)
    except BlockingIOError:
        return False
    except OSError:
        return unknown
    return True
