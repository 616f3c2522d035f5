"""Tables: every column in CSV, as many as fit on the terminal, names never crowded out."""

from __future__ import annotations

import io

from rich.console import Console

from edgefusion.cli.table import Column, Table
from edgefusion.toolchain.reporting.number_forms import megabytes, milliseconds, whole

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


def test_what_is_hidden_is_named() -> None:
    told = " ".join(shown(40).split())
    assert told.endswith("1 of 4 columns hidden (origin); --wide shows all.")
    assert "hidden" not in shown(100)


def test_wide_hides_nothing_and_cuts_nothing() -> None:
    file = io.StringIO()
    TABLE.show(Console(file=file, width=20), wide=True)
    assert "hidden" not in file.getvalue()
    assert all(part in file.getvalue() for part in ("long_name_of_an_op", "1,234", "x, y"))


def test_columns_to_keep_outlive_others_and_paths_give_way_first() -> None:
    path = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    columns = (
        Column("path", "module", path=True, keep=True),
        Column("bytes", "bytes", whole),
        Column("note", "note"),
        Column("why", "why", keep=True),
    )
    row = {"path": path, "bytes": 1, "note": "n" * 20, "why": "it does not fit " * 3}
    for width in (60, 80):
        file = io.StringIO()
        Table("T", columns, [row]).show(Console(file=file, width=width))
        text = file.getvalue()
        assert "it does not fit" in text
        assert ".attn1" in text
        assert "…" in text
        assert max(map(len, text.splitlines())) <= width


def test_files_get_whole_values_and_fewer_details() -> None:
    path = "p." * 50 + "end"
    columns = (
        Column("path", "module", path=True),
        Column("n", "n", whole),
        Column("more", "more", detail=True),
    )
    file = io.StringIO()
    row = {"path": path, "n": 7, "more": "m" * 59}
    Table("T", columns, [row]).show(Console(file=file, width=10_000), whole=True)
    assert path in file.getvalue()
    assert "1 of 3 columns hidden (more)" in file.getvalue()


def test_values_that_are_not_there_are_blank() -> None:
    assert (megabytes(None), milliseconds(None), whole(None)) == ("", "", "")


def test_columns_for_csv_alone_are_not_counted_as_hidden() -> None:
    table = Table("T", (Column("a", "a"), Column("b", "b", shown=False)), [{"a": 1, "b": 2}])
    file = io.StringIO()
    table.show(Console(file=file, width=40))
    assert "hidden" not in file.getvalue()
    assert table.csv() == "a,b\n1,2\n"
