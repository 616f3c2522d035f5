"""``edgefusion presets``: the names that SOURCE takes as they are, and how large they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli import completion
from edgefusion.cli.options import near_names
from edgefusion.cli.output import CsvOption, JsonOption, emit
from edgefusion.cli.table import Column, Table
from edgefusion.models.architectures import PRESETS, Architecture
from edgefusion.models.shipped import SHIPPED
from edgefusion.runtime.errors import UsageError
from edgefusion.toolchain.reporting.number_forms import quantity, whole

if TYPE_CHECKING:
    from edgefusion.models.architecture_costs import NetworkCost

SCHEMA_VERSION = 1
_NOTE = (
    "Multiply-accumulates of one evaluation, batch 1. Counters in the style of thop leave the "
    "products of attention (Q K^T, S V) out; both are given. Weights: drawn from a seed, or "
    "trained, and shipped with this package."
)
app = typer.Typer(add_completion=False)

_COLUMNS = (
    Column("preset", "preset"),
    Column("weights", "weights"),
    Column("component", "component"),
    Column("parameters", "parameters", whole),
    Column("weight_gmacs", "GMAC without attention", quantity),
    Column("gmacs", "GMAC with attention", quantity),
)


@app.command()
def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="PRESET", help="Only this preset.", autocompletion=completion.presets
        ),
    ] = None,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """List what `compile` takes by name: parameters and multiply-accumulates of each network.

    Examples: `edgefusion presets`; `edgefusion presets bk-sdm-tiny --json -`;
    `edgefusion presets miniature`, whose weights are trained and ship with this package.
    """
    known = (*PRESETS, *SHIPPED)
    if name is not None and name not in known:
        raise UsageError(
            f"there is no preset {name}; there are {', '.join(known)}.{near_names(name, known)}"
        )
    rows = _rows([each for preset, each in PRESETS.items() if name in (None, preset)])
    rows += _shipped_rows([preset for preset in SHIPPED if name in (None, preset)])
    document = {"schema_version": SCHEMA_VERSION, "presets": rows}
    emit(
        [Table("Presets", _COLUMNS, rows, _NOTE)], lambda: document, json_to=json_to, csv_to=csv_to
    )


def _rows(architectures: list[Architecture]) -> list[dict[str, Any]]:
    """One a network; architectures share most of their text encoders and decoders."""
    from edgefusion.models.architecture_costs import network_cost

    known: dict[Any, NetworkCost] = {}
    rows = []
    for architecture in architectures:
        for component, network in architecture.networks.items():
            if network not in known:
                known[network] = network_cost(architecture, component)
            cost = known[network]
            rows.append(_row(architecture.name, "drawn", component, cost))
    return rows


def _shipped_rows(names: list[str]) -> list[dict[str, Any]]:
    from edgefusion.models.architecture_costs import module_cost
    from edgefusion.models.source import resolve_source

    return [
        _row(name, "shipped", each, module_cost(source.load(each), source.part(each), source.sizes))
        for name in names
        for source in [resolve_source(name)]
        for each in source.components
    ]


def _row(name: str, weights: str, component: str, cost: NetworkCost) -> dict[str, Any]:
    return {
        "preset": name,
        "weights": weights,
        "component": component,
        "parameters": cost.parameters,
        "weight_gmacs": cost.operations.weight_macs / 1e9,
        "gmacs": cost.operations.macs / 1e9,
    }
