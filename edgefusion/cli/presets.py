"""``edgefusion presets``: architectures that can be named as a SOURCE, and how large they are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edgefusion.cli.output import CsvOption, JsonOption, emit
from edgefusion.cli.table import Column, Table, tenths, whole
from edgefusion.models.architectures import COMPONENTS, PRESETS, Architecture
from edgefusion.runtime.errors import UsageError

SCHEMA_VERSION = 1
_NOTE = (
    "Multiply-accumulates of one evaluation, batch 1. Counters in the style of thop leave the "
    "products of attention (Q K^T, S V) out; both are given."
)
app = typer.Typer(add_completion=False)

_COLUMNS = (
    Column("preset", "preset"),
    Column("component", "component"),
    Column("parameters", "parameters", whole),
    Column("weight_gmacs", "GMAC without attention", tenths),
    Column("gmacs", "GMAC with attention", tenths),
)


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(metavar="PRESET", help="Only this preset.")] = None,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """List presets: parameters and multiply-accumulates of each network.

    Examples: `edgefusion presets`; `edgefusion presets bk-sdm-tiny --json -`.
    """
    if name is not None and name not in PRESETS:
        raise UsageError(f"there is no preset {name}; there are {', '.join(PRESETS)}.")
    chosen = [PRESETS[name]] if name else list(PRESETS.values())
    rows = _rows(chosen)
    document = {"schema_version": SCHEMA_VERSION, "presets": rows}
    emit(
        [Table("Presets", _COLUMNS, rows, _NOTE)], lambda: document, json_to=json_to, csv_to=csv_to
    )


def _rows(architectures: list[Architecture]) -> list[dict[str, Any]]:
    """One a network; architectures share most of their text encoders and decoders."""
    from edgefusion.models.architecture_costs import NetworkCost, network_cost

    known: dict[Any, NetworkCost] = {}
    rows = []
    for architecture in architectures:
        for component in COMPONENTS:
            part = getattr(architecture, component)
            if part not in known:
                known[part] = network_cost(architecture, component)
            cost = known[part]
            rows.append(
                {
                    "preset": architecture.name,
                    "component": component,
                    "parameters": cost.parameters,
                    "weight_gmacs": cost.operations.weight_macs / 1e9,
                    "gmacs": cost.operations.macs / 1e9,
                }
            )
    return rows
