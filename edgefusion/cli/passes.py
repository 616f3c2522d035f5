"""``edgefusion passes``: what runs over a graph, in order."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any

import typer

from edgefusion.cli.output import CsvOption, JsonOption, emit
from edgefusion.cli.table import Column, Table
from edgefusion.toolchain.reporting.number_forms import whole

SCHEMA_VERSION = 1
app = typer.Typer(add_completion=False)

_COLUMNS = (
    Column("number", "#", whole),
    Column("name", "pass"),
    Column("description", "what it does"),
    Column("options", "options"),
)


@app.command()
def passes(json_to: JsonOption = None, csv_to: CsvOption = None) -> None:
    """List the passes in the order in which `compile` runs them.

    Example: `edgefusion passes`. See their effect with `edgefusion compile ... --dump-ir DIR`.
    """
    from edgefusion.passes.pipeline import default_passes

    rows = [_row(number, each) for number, each in enumerate(default_passes(), start=1)]
    document = {"schema_version": SCHEMA_VERSION, "passes": rows}
    emit([Table("Passes", _COLUMNS, rows)], lambda: document, json_to=json_to, csv_to=csv_to)


def _row(number: int, each: Any) -> dict[str, Any]:
    module = sys.modules[type(each).__module__]
    description = (module.__doc__ or "").strip().split("\n")[0]
    options = [f"{f.name}={getattr(each, f.name)!r}" for f in fields(each)]
    return {"number": number, "name": each.name, "description": description, "options": options}
