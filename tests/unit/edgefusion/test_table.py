"""Tables: every column in CSV, as many as fit on the terminal, names never crowded out."""

from __future__ import annotations

import io

from rich.console import Console

from edgefusion.cli.table import Column, Table, megabytes, whole

ROWS = [
    {"name": "a[red]b", "bytes": 2_500_000, "count": 1234, "origin": ["x", "y"]},
    {"name": "long_name_of_an_op", "bytes": 0, "count": 5, "origin": []},
]
TABLE = Table(
    "Title",
    (
        Column("name", "op"),
        Column("bytes", "MB", megabytes),
        Column("count", "count", whole),
        Column("origin", "origin", detail=True),
    ),
    ROWS,
    "a note",
)


def shown(width: int) -> str:
    file = io.StringIO()
    TABLE.show(Console(file=file, width=width))
    return file.getvalue()


def test_csv_has_raw_values_of_all_columns() -> None:
    assert TABLE.csv() == (
        "name,bytes,count,origin\n"
        'a[red]b,2500000,1234,"x, y"\n'
        "long_name_of_an_op,0,5,\n"
    )  # fmt: skip


def test_wide_terminals_show_everything() -> None:
    text = shown(100)
    assert "a[red]b" in text, "brackets in names are no markup"
    assert all(part in text for part in ("2.50", "1,234", "x, y", "Title", "a note"))


def test_narrow_terminals_drop_details_then_the_last_columns() -> None:
    assert "x, y" not in shown(40)
    assert "1,234" in shown(40)
    narrow = shown(30)
    assert "1,234" not in narrow
    assert "long_name_of_an_op" in narrow
    assert "2.50" in narrow
