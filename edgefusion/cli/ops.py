"""``edgefusion ops``: which ops the NPU runs, and the rules that each must satisfy."""

from __future__ import annotations

from collections.abc import Sequence
from shutil import get_terminal_size
from textwrap import wrap
from typing import Annotated, Any

import typer

from edgefusion.cli.options import near_names
from edgefusion.cli.output import CsvOption, JsonOption, emit, write_text
from edgefusion.cli.paths import Writes, is_stdout
from edgefusion.cli.table import Column, Table
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind

SCHEMA_VERSION = 1
app = typer.Typer(add_completion=False)
_WIDEST = 100
"""Characters of a line of text that is still easily read."""

_OPS = (
    Column("op", "op of the graph"),
    Column("kind", "becomes"),
    Column("rules", "if"),
    Column("note", "note"),
)


@app.command()
def ops(
    name: Annotated[str | None, typer.Argument(metavar="OP", help="Only this op.")] = None,
    markdown: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write SUPPORTED_OPS.md from the rules; - is stdout."),
        Writes(Kind.MARKDOWN, stdout=True),
    ] = None,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """List supported ops with their legality rules; whatever breaks one runs on the host.

    Examples: `edgefusion ops`; `edgefusion ops Attention`; `edgefusion ops --markdown -`.
    """
    from edgefusion.compiler.frontend.legality import COMMON, SUPPORTED
    from edgefusion.compiler.ops.kinds import KINDS

    if markdown:
        from edgefusion.compiler.frontend.supported_ops import supported_ops_markdown

        write_text(markdown, supported_ops_markdown(), Kind.MARKDOWN)
        if is_stdout(markdown):
            return
    rows: list[dict[str, Any]] = [
        {
            "op": op,
            "kind": support.kind.name,
            "rules": [_sentence(rule) for rule in support.rules],
            "note": support.note,
        }
        for op, support in SUPPORTED.items()
        if name in (None, op)
    ]
    if not rows:
        hint = near_names(str(name), SUPPORTED)
        raise UsageError(f"the NPU has no op {name}; it has {', '.join(SUPPORTED)}.{hint}")
    document = {
        "schema_version": SCHEMA_VERSION,
        "ops": rows,
        "kinds": {kind.name: kind.summary() for kind in KINDS},
    }
    table = Table("Supported ops", _OPS, rows)
    everywhere = [_sentence(rule) for rule in COMMON]
    lines = _blocks(rows, everywhere)
    emit([table], lambda: document, json_to=json_to, csv_to=csv_to, lines=lines, shown=[])


def _sentence(rule: Any) -> str:
    return " ".join((rule.__doc__ or "").split())


def _blocks(rows: Sequence[dict[str, Any]], everywhere: Sequence[str]) -> list[str]:
    """A paragraph a rule would make columns of a few words; ops that share their rules share a
    block, and the rules of all ops stand once."""
    ops: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        becomes = f"{row['kind']}, {row['note']}" if row["note"] else row["kind"]
        own = [rule for rule in row["rules"] if rule not in everywhere]
        ops.setdefault((becomes, *own), []).append(row["op"])
    width = min(get_terminal_size().columns, _WIDEST)

    def wrapped(text: str, first: str, rest: str) -> list[str]:
        return wrap(
            text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        )

    lines = ["Every op:", *(line for rule in everywhere for line in wrapped(rule, "  - ", "    "))]
    for (becomes, *own), names in ops.items():
        lines += ["", *wrapped(f"{', '.join(names)} -> {becomes}", "", "    ")]
        lines += [line for rule in own for line in wrapped(rule, "  - ", "    ")]
    return lines
