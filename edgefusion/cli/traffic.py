"""``edgefusion traffic``: which op, tensor or cause moves how many bytes between DRAM and SRAM."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from edgefusion.cli.options import BundleArgument
from edgefusion.cli.output import CsvOption, JsonOption, emit, progress
from edgefusion.cli.scenario_options import (
    ComponentsFilter,
    LowerAgainOption,
    OpsOption,
    ScheduleOption,
    SetOption,
    StepsOption,
    TargetOption,
    WhatIf,
    change_lines,
    heading,
    timed,
)
from edgefusion.cli.table import Column, Table
from edgefusion.toolchain.reporting.number_forms import megabytes, milliseconds, percent, whole

if TYPE_CHECKING:
    from edgefusion.toolchain.reporting.traffic_rows import TrafficView

app = typer.Typer(add_completion=False)

TERMS = (
    "Causes: weight; input and output of a component; activation (between ops, as SRAM cannot hold "
    "it); spill (put aside within an op and fetched back); reread (tiling reads the same bytes "
    "again); table (of functions). Bytes are those of the operands; whole bursts are more (on the "
    "bus). More in docs/reading_reports.md; JSON keys in docs/json_schemas.md."
)
_RANKED_ROWS = 20


class By(StrEnum):
    """What bytes are counted by."""

    OP = "op"
    TENSOR = "tensor"
    CAUSE = "cause"
    COMPONENT = "component"


_VIEWS: dict[By, TrafficView] = {
    By.OP: "op",
    By.TENSOR: "tensor",
    By.CAUSE: "cause",
    By.COMPONENT: "component",
}
_COMPONENT = Column("component", "component", keep=True)
_RUNS = Column("evaluations", "runs", whole)
_SHARE = (
    Column("image_bytes", "MB", megabytes, keep=True),
    Column("share_percent", "%", percent, keep=True),
)
_CUMULATIVE = Column("cumulative_percent", "cum. %", percent)
_DIRECTIONS = (
    Column("image_read_bytes", "read MB", megabytes),
    Column("image_write_bytes", "written MB", megabytes),
)
_AGAIN = (
    Column("image_spill_bytes", "spilled MB", megabytes),
    Column("image_reread_bytes", "reread MB", megabytes),
)
_DETAILS = (
    Column("image_dma_ms", "DMA ms", milliseconds, detail=True),
    Column("image_bus_bytes", "on the bus MB", megabytes, detail=True),
    Column("image_transfers", "transfers", whole, detail=True),
)
_NAMES = (
    Column("component", "component", shown=False),
    Column("module", "module", shown=False),
    Column("evaluations", "runs", whole, detail=True),
)
_COLUMNS = {
    By.COMPONENT: (_COMPONENT, _RUNS, *_SHARE, *_AGAIN, *_DIRECTIONS, *_DETAILS),
    By.CAUSE: (
        _COMPONENT,
        _RUNS,
        Column("name", "cause", keep=True),
        *_SHARE,
        *_DIRECTIONS,
        *_DETAILS,
    ),
    By.OP: (
        Column("path", "module", path=True, keep=True),
        Column("kind", "kind"),
        *_SHARE,
        _CUMULATIVE,
        *_AGAIN,
        *_DIRECTIONS,
        Column("name", "op", detail=True),
        *_DETAILS,
        *_NAMES,
    ),
    By.TENSOR: (
        Column("name", "tensor", path=True, keep=True),
        *_SHARE,
        *_AGAIN,
        Column("path", "moved most by", path=True),
        Column("kind", "kind", detail=True),
        Column("op", "op", detail=True),
        _CUMULATIVE,
        *_DIRECTIONS,
        *_DETAILS,
        *_NAMES,
    ),
}


@app.command(epilog=TERMS)
def traffic(
    bundle: BundleArgument,
    by: Annotated[By, typer.Option(help="What bytes are counted by.")] = By.CAUSE,
    settings: SetOption = None,
    target: TargetOption = None,
    schedule: ScheduleOption = None,
    steps: StepsOption = None,
    lower_again: LowerAgainOption = False,
    components: ComponentsFilter = None,
    ops: OpsOption = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=0, help=f"Rows shown; 0 is all (of ops and tensors {_RANKED_ROWS} when left out)."
        ),
    ] = None,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """Account for every byte that DMA moves for an image.

    Examples: `edgefusion traffic tiny.npub`; `edgefusion traffic tiny.npub --by op --top 40`;
    `edgefusion traffic tiny.npub --by tensor --op '*.attn1'`; `edgefusion traffic tiny.npub --set
    sram=4MiB`; `edgefusion traffic tiny.npub --by tensor --csv tensors.csv`.

    Figures count all evaluations of an image; MB are 10^6 bytes, percentages of the whole image.
    """
    from edgefusion.runtime.latency import total_label
    from edgefusion.toolchain.reporting.documents import traffic_document
    from edgefusion.toolchain.reporting.selection import select_ops

    with progress() as say:
        what_if = WhatIf(settings or (), target, schedule, steps, lower_again)
        profile = timed(bundle, what_if, components, say)
        document = traffic_document(profile, select_ops(profile.ops, ops) if ops else None)
    rows = document["image"][_VIEWS[by]]
    label, total = total_label(document["components"]), document["total_bytes"]
    of = f"{', '.join(ops)} of {label}" if ops else label
    title = f"DMA traffic of {heading(document)}, by {by}: {of}"
    notes = [f"{label}: {total / 1e6:,.2f} MB (10^6 bytes)"]
    if ops:
        part = sum(row["image_bytes"] for row in rows)
        share = 100 * part / total if total else 0.0
        notes.insert(0, f"{', '.join(ops)}: {part / 1e6:,.2f} MB, {share:.1f} %")
    count = top if top is not None else _RANKED_ROWS if by in (By.OP, By.TENSOR) else 0
    shown = rows[:count] if count else rows
    if len(shown) < len(rows):
        notes.append(f"{len(rows) - len(shown)} rows more (--top 0 shows all)")
    columns = _COLUMNS[by]
    if any(column in columns for column in _AGAIN):
        # a column of zeros says less than a word, and takes the room of another
        never = [column for column in _AGAIN if not any(row[column.key] for row in rows)]
        notes += [f"nothing is {column.title.split()[0]}" for column in never]
        narrow = tuple(column for column in columns if column not in never)
    else:
        narrow = columns
    emit(
        [Table(title, columns, rows)],
        lambda: document,
        json_to=json_to,
        csv_to=csv_to,
        lines=change_lines(document),
        shown=[Table(title, narrow, shown, "; ".join(notes))],
    )
