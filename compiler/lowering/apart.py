"""Lowering in a process of its own, while this one has something else to do.

    python -m edgefusion.compiler.lowering.apart FOLDER

lowers what lies in ``FOLDER`` as this process would; a program does not depend on who makes it.
The other process saves time and nothing else: where it cannot be had or comes to grief, for want of
memory or over an error that a user may have caused, the work is done here, and errors are those of
``lower``.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.child_process import begin_child, end_with_parent, stop_child
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program
from edgefusion.runtime.progress import Say

_WORTHWHILE_OPS = 50
"""To plan the groups of so many ops takes a second or more (10 to 120 ms an op), and to begin a
process 0.7."""
_TASK = "lowering.pkl"


@dataclass(frozen=True, slots=True)
class Lowering:
    """A network that is lowered in ``process``, or, if that is None, when it is asked for."""

    network: Network
    machine: Machine
    folder: Path
    say: Say
    process: subprocess.Popen[bytes] | None = None

    @property
    def is_apart(self) -> bool:
        """Whether there is something to wait for."""
        return self.process is not None

    def program(self, schedule: Schedule) -> Program:
        """The program under one of the schedules asked for. Raises what ``lower`` does."""
        if self.process is not None and self._is_well(self.process):
            made = pickle.loads(_result(self.folder, schedule).read_bytes())
            assert isinstance(made, Program)
            return made
        return lower(self.network, self.machine, schedule, self.say).program

    def _is_well(self, process: subprocess.Popen[bytes]) -> bool:
        """Pass on what ``process`` says, until it ends; whether it made what it was to make."""
        assert process.stdout is not None
        for line in process.stdout:
            self.say(line.decode().rstrip("\n"))
        return process.wait() == 0


@contextmanager
def lowering(
    network: Network,
    machine: Machine,
    schedules: Sequence[Schedule],
    folder: Path,
    say: Say,
    *,
    busy: bool,
) -> Iterator[Lowering]:
    """``network``, being lowered under ``schedules`` while the block runs, if that is worth a
    process; ``busy``: if this one has something else to do meanwhile. ``folder`` takes what they
    hand each other."""
    process = None
    if busy and takes_long(network, schedules):
        process = _begun(network, machine, schedules, folder)
    try:
        yield Lowering(network, machine, folder, say, process)
    finally:
        if process is not None:
            stop_child(process)


def takes_long(network: Network, schedules: Sequence[Schedule]) -> bool:
    """Whether lowering takes longer than to begin a process for it."""
    count = sum(not op.kind.is_view for op in network.ops)
    return count >= _WORTHWHILE_OPS and any(schedule.groups for schedule in schedules)


def _begun(
    network: Network, machine: Machine, schedules: Sequence[Schedule], folder: Path
) -> subprocess.Popen[bytes] | None:
    """The process; None where there can be none."""
    with disk_errors(folder):
        (folder / _TASK).write_bytes(pickle.dumps((network, machine, tuple(schedules))))
    try:
        return begin_child(__name__, str(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return None


def _result(folder: Path, schedule: Schedule) -> Path:
    return folder / f"{schedule.name}.pkl"


def main(folder: Path) -> None:
    """Lower what ``folder`` asks for, as long as the process lives that asked."""
    end_with_parent()
    network, machine, schedules = pickle.loads((folder / _TASK).read_bytes())

    def say(text: str) -> None:
        sys.stdout.buffer.write(f"{text}\n".encode())
        sys.stdout.buffer.flush()

    for schedule in schedules:
        program = lower(network, machine, schedule, say).program
        _result(folder, schedule).write_bytes(pickle.dumps(program))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
