"""A table: rows of one record type, shown on a terminal or written as CSV with the same keys.

Rows are what the records' ``to_json`` gives, so that terminal, CSV and JSON cannot disagree.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from edgefusion.cli.shortening import shortened
from edgefusion.toolchain.reporting.number_forms import NUMBERS

Row = Mapping[str, Any]
Format = Callable[[Any], str]

_FOLD_FROM = 28
"""Texts up to this width are shown on one line."""
_NARROWEST = 20
"""Those of columns that must stay fold from here."""
_SENTENCE = 60
"""Texts that are wider fold at their spaces even where there is room for all columns."""
_WIDTH_OF_FILES = 160
"""Where nothing is cut, details are shown up to here."""
_SHORTEST_PATH = 32
"""Module paths are shortened to this before a column is left out."""
_BETWEEN = 2
"""Characters between two columns, the last one's included; one more is before the first."""


def plain(value: Any) -> str:
    """As it is; nothing for None, lists joined by commas."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


@dataclass(frozen=True, slots=True)
class Column:
    """``key`` of the row, ``title`` on the terminal, and how its values are shown there.

    On a narrow terminal ``detail`` columns are the first to be left out, and those to ``keep``
    never; a ``path`` is shortened. CSV has every column, those that are not ``shown`` too.
    """

    key: str
    title: str
    form: Format = plain
    detail: bool = False
    keep: bool = False
    path: bool = False
    shown: bool = True

    @property
    def is_number(self) -> bool:
        """Whether it is aligned to the right."""
        return self.form in NUMBERS


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title. CSV holds the columns' raw values under their keys."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    note: str = ""

    def show(self, console: Console, *, whole: bool = False, wide: bool = False) -> None:
        """Print it, as many of the columns as fit, and a line that names the others.

        Numbers never wrap; long names and sentences fold, module paths are shortened. With
        ``whole`` (no terminal) values are not cut and only details may be missing; ``wide`` prints
        all columns, however long the lines become.
        """
        columns = [column for column in self.columns if column.shown]
        widths, hidden = self._fitting(columns, console.width, whole or wide, wide)
        console.width = max(console.width, sum(widths.values()) + len(widths) * _BETWEEN + 1)
        table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        columns = [column for column in columns if column.key in widths]
        for column in columns:
            table.add_column(
                column.title,
                justify="right" if column.is_number else "left",
                overflow="fold",
                width=widths[column.key],
            )
        for row in self.rows:
            # Text, because op names may hold brackets, which rich takes for markup
            table.add_row(*(Text(_cell(column, row, widths[column.key])) for column in columns))
        console.print(Text(self.title, style="italic"))
        console.print(table)
        if self.note:
            console.print(Text(self.note))
        if hidden:
            titles = ", ".join(column.title for column in hidden)
            count = f"{len(hidden)} of {len(hidden) + len(columns)} columns"
            console.print(Text(f"{count} hidden ({titles}); --wide shows all."))

    def _fitting(
        self, columns: Sequence[Column], width: int, whole: bool, wide: bool
    ) -> tuple[dict[str, int], list[Column]]:
        """The width of each column that is shown, by key, and the columns that are not."""
        if whole:
            width = _WIDTH_OF_FILES
        kept = list(columns)
        measure = self._whole_width if whole else self._least_width
        least = {column.key: measure(column) for column in columns}

        def room() -> int:
            return width - 1 - sum(least[column.key] + _BETWEEN for column in kept)

        while room() < 0 and not wide:
            optional = [column for column in kept if not column.keep]
            details = [column for column in optional if column.detail]
            if len(kept) == 1 or not (details if whole else optional):
                break
            kept.remove((details or optional)[-1])
        widths = {column.key: least[column.key] for column in kept}
        spare = 0 if whole else room()
        for growing in (
            {c.key: self._widest(c) for c in kept if not c.is_number},
            {c.key: max(len(c.title), widths[c.key]) for c in kept},
        ):
            while spare > 0:
                narrow = [key for key, wanted in growing.items() if widths[key] < wanted][:spare]
                if not narrow:
                    break
                for key in narrow:
                    widths[key] += 1
                spare -= len(narrow)
        return widths, [column for column in columns if column not in kept]

    def _cells(self, column: Column) -> list[str]:
        return [column.form(row[column.key]) for row in self.rows]

    def _widest(self, column: Column) -> int:
        return max(map(len, (*self._cells(column), *column.title.split())))

    def _least_width(self, column: Column) -> int:
        widest = self._widest(column)
        if column.is_number:
            return widest
        fold = _SHORTEST_PATH if column.path else _NARROWEST if column.keep else _FOLD_FROM
        return min(widest, fold)

    def _whole_width(self, column: Column) -> int:
        words = [word for cell in self._cells(column) for word in cell.split()]
        longest = max(map(len, words), default=0)
        whole_width = max(self._widest(column), len(column.title))
        return whole_width if column.is_number else min(whole_width, max(_SENTENCE, longest))

    def csv(self) -> str:
        """As CSV text with a header of keys."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.key for column in self.columns])
        for row in self.rows:
            values = (row[column.key] for column in self.columns)
            writer.writerow([plain(v) if isinstance(v, list | tuple) else v for v in values])
        return file.getvalue()


def _cell(column: Column, row: Row, width: int) -> str:
    text = column.form(row[column.key])
    return shortened(text, width) if column.path else text
