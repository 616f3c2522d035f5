"""``edgefusion targets``: the machines that come with the tool, and where each number is from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edgefusion.cli.output import CsvOption, JsonOption, emit
from edgefusion.cli.paths import Reads
from edgefusion.cli.table import Column, Table, quantity, whole
from edgefusion.runtime.target import Target, list_targets, load_target

SCHEMA_VERSION = 1
app = typer.Typer(add_completion=False)

_LIST = (
    Column("name", "target"),
    Column("sram_bytes", "SRAM bytes", whole),
    Column("description", "description"),
)
_PARAMETERS = (
    Column("parameter", "parameter"),
    Column("value", "value", quantity),
    Column("status", "status"),
    Column("source", "source"),
)


@app.command()
def targets(
    name: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="A target's name or .toml file."), Reads()
    ] = None,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """List targets, or one target's parameters with their provenance.

    Examples: `edgefusion targets`; `edgefusion targets exynos2400`; `edgefusion targets my.toml`.
    """
    if name is None:
        rows = [_summary(load_target(known)) for known in list_targets()]
        document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "targets": rows}
        tables = [Table("Targets", _LIST, rows)]
    else:
        target = load_target(name)
        rows = _parameters(target)
        document = {
            "schema_version": SCHEMA_VERSION,
            **_summary(target),
            "digest": target.machine.digest,
            "parameters": rows,
        }
        title = f"{target.machine.name}: {target.description}"
        tables = [Table(title, _PARAMETERS, rows, f"digest {target.machine.digest}")]
    emit(tables, lambda: document, json_to=json_to, csv_to=csv_to)


def _summary(target: Target) -> dict[str, Any]:
    return {
        "name": target.machine.name,
        "description": target.description,
        "sram_bytes": target.machine.sram_bytes,
    }


def _parameters(target: Target) -> list[dict[str, Any]]:
    """One row a parameter, tables flattened to dotted names, in the order of the machine."""
    rows = []
    for name, value in target.machine.parameters().items():
        if name == "name":
            continue
        named = (
            {f"{name}.{key}": entry for key, entry in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
        for key, entry in named.items():
            origin = target.provenance[key]
            rows.append(
                {
                    "parameter": key,
                    "value": entry,
                    "status": origin.status,
                    "source": origin.source,
                }
            )
    return rows
