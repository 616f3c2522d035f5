"""A full disk as an OSError, however the libraries that write weights put it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a disk without room."""
_NUMBER = re.compile(r"\(os error (\d+)\)")


@contextmanager
def as_os_errors() -> Iterator[None]:
    """safetensors raises its own error with the number in its text, torch.save a RuntimeError with
    the OSError behind it; both leave as OSError."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        number = _number(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number)) from error


def _number(error: BaseException | None) -> int | None:
    if error is None:
        return None
    if isinstance(error, OSError):
        return error.errno
    match = _NUMBER.search(str(error))
    return int(match[1]) if match else _number(error.__cause__ or error.__context__)
