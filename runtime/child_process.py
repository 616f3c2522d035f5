"""Processes of this tool that do a part of the work, and never outlive the one that asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from threading import Thread
from typing import IO


def begin_child(
    module: str,
    *arguments: str,
    stdout: IO[bytes] | int,
    stderr: int,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Python, running ``module`` as a program; ``stdout``, ``stderr`` and ``env`` are those of
    ``subprocess.Popen``. Raises OSError where there can be no further process."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,  # never written: it ends when this process does
        stdout=stdout,
        stderr=stderr,
        env=env,
    )


def stop_child(process: subprocess.Popen[bytes]) -> None:
    """See to it that it has ended."""
    with process:  # closes its pipes
        if process.poll() is None:
            process.kill()


def end_with_parent() -> None:
    """In the child: end as soon as the process that began it has ended."""
    Thread(target=_end_with_input, daemon=True).start()


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)
