"""``edgefusion targets``: the machines that come with the tool, and where each number is from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgefusion.cli.output import CsvOption, JsonOption, emit, write_text
from edgefusion.cli.paths import Reads, Writes, is_stdout
from edgefusion.cli.table import Column, Table
from edgefusion.runtime.claims import Output, claim_outputs
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.settings import parse_settings
from edgefusion.runtime.target import Target, list_targets, load_target, target_files
from edgefusion.toolchain.reporting.number_forms import quantity, whole

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
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="With another value, as in sram=4MiB; once for each. It no longer counts as "
            "calibrated, or whatever it was.",
        ),
    ] = None,
    called: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="With another name."),
    ] = None,
    toml_to: Annotated[
        str | None,
        typer.Option(
            "--toml",
            metavar="FILE",
            help="Write a complete target file, comments and provenance kept; - is stdout.",
        ),
        Writes(Kind.TOML, stdout=True),
    ] = None,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """List targets, or one target's parameters with their provenance.

    Examples: `edgefusion targets`; `edgefusion targets exynos2400`; `edgefusion targets my.toml`;
    `edgefusion targets exynos2400 --set sram=4MiB --set dma_bandwidth=30GB/s --name half --toml
    half.toml`, then `edgefusion simulate tiny.npub --target half.toml`.

    A file may also say no more than what differs from another target: base = "exynos2400".
    """
    if name is None:
        if settings or called is not None or toml_to:
            raise UsageError(
                "--set, --name and --toml need a target, as in edgefusion targets "
                "exynos2400 --toml -."
            )
        rows = [_summary(load_target(known)) for known in list_targets()]
        document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "targets": rows}
        tables = [Table("Targets", _LIST, rows)]
    else:
        target = _edited(load_target(name), settings or [], called)
        if toml_to:
            _write_toml(toml_to, name, target)
        rows = _parameters(target)
        document = {
            "schema_version": SCHEMA_VERSION,
            **_summary(target),
            "digest": target.machine.digest,
            "parameters": rows,
        }
        title = f"{target.machine.name}: {target.description}"
        tables = [Table(title, _PARAMETERS, rows, f"digest {target.machine.digest}")]
    shown: list[Table] | None = [] if is_stdout(toml_to) else None
    emit(tables, lambda: document, json_to=json_to, csv_to=csv_to, shown=shown)


def _edited(target: Target, settings: list[str], called: str | None) -> Target:
    edited = target.with_values(parse_settings(settings, target.machine))
    return edited if called is None else edited.named(called)


def _write_toml(place: str, name: str, target: Target) -> None:
    from edgefusion.runtime.target_toml import target_toml

    if not is_stdout(place):
        claim_outputs([Output(Path(place), Kind.TOML)], target_files(name))
    write_text(place, target_toml(name, target), Kind.TOML)


def _summary(target: Target) -> dict[str, Any]:
    return {
        "name": target.machine.name,
        "description": target.description,
        "sram_bytes": target.machine.sram_bytes,
    }


def _parameters(target: Target) -> list[dict[str, Any]]:
    """One row a parameter, tables flattened to dotted names, in the order of the machine."""
    return [
        {
            "parameter": key,
            "value": value,
            "status": target.provenance[key].status,
            "source": target.provenance[key].source,
        }
        for key, value in target.machine.flat_parameters().items()
    ]
