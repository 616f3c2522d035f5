"""Ends that are asked for from outside, by SIGINT or SIGTERM: at once, and with the shell's code.

Not by KeyboardInterrupt: where one passes through ``exec`` of a string (any dataclass being
defined), ``python -m`` dies of SIGINT at its end whatever code it was given. And not only by an
exception: a library that is being imported, or C code that calls Python, may drop any, and the
command would go on as if nobody had asked. So the request is kept, and heeded again wherever long
work tells its progress.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked: list[int] = []
"""The signals that came to the present command: they belong to the process, and so does this."""


@contextmanager
def listening() -> Iterator[None]:
    """A command: SIGINT and SIGTERM end it, unless whoever began it has them ignored. What was
    asked of one is not heeded by the next in the same process.

    What cleans up runs: the end is SystemExit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        yield
    finally:
        _asked.clear()


def heed() -> None:
    """End if that was asked for. Raises SystemExit, with 128 + the number of the signal."""
    if _asked:
        sys.exit(128 + _asked[0])


def _end(number: int, _frame: FrameType | None) -> None:
    _asked.append(number)
    heed()
