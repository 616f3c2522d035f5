"""What a run logs each step: a CSV file always, TensorBoard's format where it is installed.

A resumed run drops the rows after its checkpoint, so that no step is logged twice.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.files import replacing

_STEP = "step"


class RunLog:
    """``folder``/log.csv and tensorboard/ of a run that goes on after ``step`` (0: begins).

    Raises UsageError where TensorBoard is wanted (``on``) and not installed.
    """

    def __init__(self, folder: Path, step: int, tensorboard: Literal["auto", "on", "off"]) -> None:
        self._path = folder / "log.csv"
        self._step = step
        self._columns: tuple[str, ...] = ()
        self._board = _board(folder / "tensorboard", step, tensorboard)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._board is not None:
            self._board.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One row; it is in the file when this returns. Every row has the first one's columns."""
        if not self._columns:
            self._columns = tuple(values)
            self._begin()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([step, *(repr(values[name]) for name in self._columns)])
        if self._board is not None:
            for name in self._columns:
                self._board.add_scalar(name, values[name], step)

    def _begin(self) -> None:
        """A header, and rows of the earlier run up to its checkpoint."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        header = [_STEP, *self._columns]
        kept = _rows(self._path, header, self._step)
        with (
            replacing((self._path,), Kind.CSV) as (partial,),
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows([header, *kept])


def _rows(path: Path, header: list[str], step: int) -> list[list[str]]:
    """Rows up to ``step``; a row that was cut off, and rows of other columns, are none."""
    if not step or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if not rows or rows[0] != header:
        return []
    whole = (row for row in rows[1:] if len(row) == len(header) and row[0].isdigit())
    return [row for row in whole if int(row[0]) <= step]


def _board(folder: Path, step: int, wanted: Literal["auto", "on", "off"]) -> Any:
    """A SummaryWriter, or None."""
    if wanted == "off":
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        if wanted == "auto":
            return None
        raise UsageError(
            "run.tensorboard is on, but TensorBoard is not installed: pip install tensorboard, or "
            "set run.tensorboard to auto or off (log.csv has the same values)."
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
