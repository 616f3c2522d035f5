"""Reads static memory allocation problems in minimalloc's format.

A CSV file with a header ``id,lower,upper,size``: a buffer lives from ``lower`` up to, and without,
``upper``. A column ``offset`` (of a solution) is passed over; others are refused, for what they ask
for is not kept.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from edgefusion.compiler.memory.placement import Lifetime
from edgefusion.runtime.errors import InputError

COLUMNS = ("id", "lower", "upper", "size")
_SOLUTION = "offset"
_LIMIT = 1 << 60
"""Beyond it, sums would leave 64 bits."""


def read_minimalloc(path: Path) -> tuple[Lifetime, ...]:
    """The buffers, in the order of the file. Raises InputError, with the line, for what is not of
    the format."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}. {_expected()}") from error
    rows = csv.reader(io.StringIO(text), strict=True)
    try:
        head = [name.strip() for name in next(rows, [])]
        unknown = [name for name in head if name not in (*COLUMNS, _SOLUTION)]
        if set(COLUMNS) - set(head) or unknown or len(set(head)) < len(head):
            raise InputError(f"{path}: its header is {','.join(head)!r}. {_expected()}")
        found = [_buffer(head, cells, f"{path}, line {rows.line_num}") for cells in rows if cells]
    except csv.Error as error:
        raise InputError(f"{path}, line {rows.line_num}: {error}. {_expected()}") from error
    names = {lifetime.name for lifetime in found}
    if len(names) < len(found):
        raise InputError(f"{path}: an id stands there twice. {_expected()}")
    return tuple(found)


def _buffer(head: list[str], cells: list[str], where: str) -> Lifetime:
    if len(cells) != len(head):
        raise InputError(f"{where}: {len(cells)} values for {len(head)} columns. {_expected()}")
    row = dict(zip(head, (cell.strip() for cell in cells), strict=True))
    numbers = {}
    for key in ("lower", "upper", "size"):
        digits = row[key].removeprefix("-")
        if not (digits.isascii() and digits.isdecimal()) or int(digits[:20]) > _LIMIT:
            raise InputError(f"{where}: {key} is {row[key]!r}. {_expected()}")
        numbers[key] = int(row[key])
    if numbers["upper"] <= numbers["lower"] or numbers["size"] < 0:
        raise InputError(
            f"{where}: buffer {row['id']} lives from {numbers['lower']} to {numbers['upper']} and "
            f"has {numbers['size']} bytes; expected upper above lower, and a size of 0 or more."
        )
    return Lifetime(row["id"], numbers["lower"], numbers["upper"] - 1, numbers["size"])


def _expected() -> str:
    return (
        "Expected minimalloc's CSV: a header id,lower,upper,size, and a line of whole numbers for "
        "each buffer, each id once."
    )
