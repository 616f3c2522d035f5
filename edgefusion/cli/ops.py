"""``edgefusion ops``: which ops the NPU runs, and the rules that each must satisfy."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edgefusion.cli.output import CsvOption, JsonOption, emit, write_text
from edgefusion.cli.paths import Writes, is_stdout
from edgefusion.cli.table import Column, Table
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind

SCHEMA_VERSION = 1
app = typer.Typer(add_completion=False)

_OPS = (
    Column("op", "op of the graph"),
    Column("kind", "becomes"),
    Column("rules", "if", lambda rules: " ".join(rules) or "always"),
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
    from edgefusion.compiler.frontend.legality import SUPPORTED
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
            "rules": [" ".join((rule.__doc__ or "").split()) for rule in support.rules],
            "note": support.note,
        }
        for op, support in SUPPORTED.items()
        if name in (None, op)
    ]
    if not rows:
        raise UsageError(f"the NPU has no op {name}; it has {', '.join(SUPPORTED)}.")
    document = {
        "schema_version": SCHEMA_VERSION,
        "ops": rows,
        "kinds": {kind.name: kind.summary() for kind in KINDS},
    }
    table = Table("Supported ops", _OPS, rows)
    emit([table], lambda: document, json_to=json_to, csv_to=csv_to)
