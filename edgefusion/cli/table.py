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

Row = Mapping[str, Any]
Format = Callable[[Any], str]

_FOLD_FROM = 28
"""Texts up to this width are shown on one line."""
_BETWEEN = 2
"""Characters between two columns, the last one's included; one more is before the first."""


def plain(value: Any) -> str:
    """As it is; nothing for None, lists joined by commas."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def milliseconds(value: float | None) -> str:
    """Three decimals: microseconds are the last; nothing for None."""
    return "" if value is None else f"{value:,.3f}"


def tenths(value: float) -> str:
    """One decimal, as the paper gives milliseconds."""
    return f"{value:,.1f}"


def seconds(value: float) -> str:
    """Two decimals."""
    return f"{value:,.2f}"


def whole(value: float | None) -> str:
    """An integer with thousands separated; nothing for None."""
    return "" if value is None else f"{value:,.0f}"


def megabytes(value: float | None) -> str:
    """Bytes as MB (10^6 bytes), two decimals; nothing for None."""
    return "" if value is None else f"{value / 1e6:,.2f}"


def ratio(value: float | None) -> str:
    """How many times the bound; nothing where there is none."""
    return "" if value is None else f"{value:.2f}"


def percent(value: float | None) -> str:
    """One decimal; nothing for None."""
    return "" if value is None else f"{value:.1f}"


def signed_percent(value: float | None) -> str:
    """One decimal with its sign, for errors; nothing for None."""
    return "" if value is None else f"{value:+.1f}"


def decibels(value: float | None) -> str:
    """One decimal; nothing for None."""
    return "" if value is None else f"{value:.1f}"


def quantity(value: int | float) -> str:
    """A parameter of any size: integers in full, others in six digits."""
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}"


_NUMBERS = (
    milliseconds,
    tenths,
    seconds,
    whole,
    megabytes,
    ratio,
    percent,
    signed_percent,
    decibels,
    quantity,
)


@dataclass(frozen=True, slots=True)
class Column:
    """``key`` of the row, ``title`` on the terminal, and how its values are shown there.

    ``detail`` columns are the first to be left out on a narrow terminal; CSV has every column.
    """

    key: str
    title: str
    form: Format = plain
    detail: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it is aligned to the right."""
        return self.form in _NUMBERS


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title. CSV holds the columns' raw values under their keys."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    note: str = ""

    def show(self, console: Console) -> None:
        """Print it, as many of the columns as fit: details give way first, then the last ones.

        Numbers never wrap; long names and sentences fold.
        """
        table = RichTable(
            title=self.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
        )
        columns = self._fitting(console.width)
        for column in columns:
            number = column.is_number
            table.add_column(
                column.title,
                justify="right" if number else "left",
                no_wrap=number,
                overflow="fold",
                min_width=self._least_width(column),
            )
        for row in self.rows:
            # Text, because op names may hold brackets, which rich takes for markup
            table.add_row(*(Text(column.form(row[column.key])) for column in columns))
        console.print(table)
        if self.note:
            console.print(Text(self.note))

    def _fitting(self, width: int) -> list[Column]:
        columns = list(self.columns)

        def needed() -> int:
            return sum(self._least_width(column) + _BETWEEN for column in columns) + 1

        while len(columns) > 1 and needed() > width:
            details = [column for column in columns if column.detail]
            columns.remove(details[-1] if details else columns[-1])
        return columns

    def _least_width(self, column: Column) -> int:
        cells = (column.form(row[column.key]) for row in self.rows)
        widest = max(map(len, (column.title, *cells)))
        return widest if column.is_number else min(widest, _FOLD_FROM)

    def csv(self) -> str:
        """As CSV text with a header of keys."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.key for column in self.columns])
        for row in self.rows:
            values = (row[column.key] for column in self.columns)
            writer.writerow([plain(v) if isinstance(v, list | tuple) else v for v in values])
        return file.getvalue()
