"""``edgefusion traffic``: which op, tensor or cause moves how many bytes between DRAM and SRAM."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgefusion.cli.options import BundleArgument
from edgefusion.cli.output import CsvOption, JsonOption, emit, progress
from edgefusion.cli.table import Column, Table, megabytes, milliseconds, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgefusion.runtime.ledger import Ledger, Traffic

app = typer.Typer(add_completion=False)

_COLUMNS = (
    Column("component", "component"),
    Column("evaluations", "runs", whole),
    Column("name", "name"),
    Column("transfers", "transfers", whole),
    Column("bytes", "MB", megabytes),
    Column("read_bytes", "read MB", megabytes),
    Column("write_bytes", "written MB", megabytes),
    Column("bus_bytes", "on the bus MB", megabytes, detail=True),
    Column("dma_us", "DMA µs", milliseconds),
)


class By(StrEnum):
    """What bytes are counted by."""

    OP = "op"
    TENSOR = "tensor"
    CAUSE = "cause"
    COMPONENT = "component"


_VIEWS: dict[By, Literal["op", "tensor", "cause"]] = {
    By.OP: "op",
    By.TENSOR: "tensor",
    By.CAUSE: "cause",
}


@app.command()
def traffic(
    bundle: BundleArgument,
    by: Annotated[By, typer.Option(help="What bytes are counted by.")] = By.CAUSE,
    top: Annotated[int, typer.Option(min=0, help="Rows shown a component; 0 is all.")] = 0,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """Account for every byte that DMA moves.

    Examples: `edgefusion traffic tiny.npub`; `edgefusion traffic tiny.npub --by op --top 20`;
    `edgefusion traffic tiny.npub --by tensor --csv tensors.csv`.

    Rows are of one evaluation. A cause is weight, input, output, activation (between ops), spill,
    reread (tiling reads the same bytes again) or table. MB are 10^6 bytes.
    """
    from edgefusion.api import open_bundle, traffic_of
    from edgefusion.runtime.latency import total_label
    from edgefusion.runtime.ledger import pipeline_traffic_json

    with progress() as say:
        say(f"checking {bundle}")
        opened = open_bundle(bundle)
        say("adding up transfers")
        parts = traffic_of(opened)
        document = pipeline_traffic_json(parts)
    rows = traffic_rows(parts, by)
    note = f"{total_label(opened.components)}: {document['total_bytes']:,} bytes"
    title = f"DMA traffic of {bundle.name} by {by}, {opened.manifest.schedule}"
    table = Table(title, _COLUMNS, rows, note)
    shown = Table(title, _COLUMNS, _first(rows, top), note) if top else table
    emit([table], lambda: document, json_to=json_to, csv_to=csv_to, shown=[shown])


def traffic_rows(parts: Sequence[tuple[Ledger, int]], by: By) -> list[dict[str, Any]]:
    """One row a name that moved something, components in pipeline order, most bytes first."""
    rows = []
    for ledger, evaluations in parts:
        found: Sequence[Traffic] = (
            (ledger.total(),) if by is By.COMPONENT else ledger.by(_VIEWS[by])
        )
        rows += [
            {"component": ledger.component, "evaluations": evaluations, **entry.to_json()}
            for entry in found
        ]
    return rows


def _first(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The first rows of each component."""
    seen: dict[str, int] = {}
    kept = []
    for row in rows:
        seen[row["component"]] = seen.get(row["component"], 0) + 1
        if seen[row["component"]] <= count:
            kept.append(row)
    return kept
