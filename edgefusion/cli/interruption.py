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
from types import FrameType

_asked: list[int] = []
"""The signals that came since ``listen``: they belong to the process, and so does this."""


def listen() -> None:
    """From now on, SIGINT and SIGTERM end the command, unless whoever began it has them ignored.

    What cleans up runs: the end is SystemExit."""
    _asked.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def heed() -> None:
    """End if that was asked for. Raises SystemExit, with 128 + the number of the signal."""
    if _asked:
        sys.exit(128 + _asked[0])


def _end(number: int, _frame: FrameType | None) -> None:
    _asked.append(number)
    heed()
