"""``edgefusion simulate``: the latency of a bundle, by component, engine and op."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefusion.cli.latency_tables import (
    COSTLIEST,
    component_table,
    costliest_table,
    engine_table,
    op_table,
)
from edgefusion.cli.options import BundleArgument
from edgefusion.cli.output import CsvOption, JsonOption, emit, progress, write_text
from edgefusion.cli.paths import Writes, is_stdout
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
from edgefusion.runtime.file_kinds import Kind, trace_kind
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from edgefusion.toolchain.profiling.profile import Profile

app = typer.Typer(add_completion=False)

TERMS = (
    "An op's latency is the time in which it is the earliest op at work: what runs in the shadow "
    "of an earlier op costs nothing. Bound: what no schedule of these groups of ops can beat on "
    "this machine; fused bound: what none of any groups can; × bound and × fused: how far from "
    "them. Limited by: the engine that is busy longest for the op. An engine is busy, waits (for a "
    "result of another kind of engine, a semaphore, or the DRAM bus), or is idle after its last "
    "instruction. More in docs/reading_reports.md; JSON in docs/json_schemas.md."
)


@app.command(epilog=TERMS)
def simulate(
    bundle: BundleArgument,
    settings: SetOption = None,
    target: TargetOption = None,
    schedule: ScheduleOption = None,
    steps: StepsOption = None,
    lower_again: LowerAgainOption = False,
    components: ComponentsFilter = None,
    ops: OpsOption = None,
    top: Annotated[
        int | None, typer.Option(min=0, help="How many of the costliest ops to show; 0 is all.")
    ] = None,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
    components_csv: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the components as CSV; - is stdout."),
        Writes(Kind.CSV, stdout=True),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a trace for ui.perfetto.dev; JSON if it ends so."),
        Writes(trace_kind),
    ] = None,
) -> None:
    """Time a bundle on the machine that it was compiled for, or on another ("what if").

    Examples: `edgefusion simulate tiny.npub`; `edgefusion simulate tiny.npub --op '*attn1*'
    --csv attention.csv`; `edgefusion simulate tiny.npub --json - | jq .pipeline.total_ms`;
    `edgefusion simulate tiny.npub --set dma_bandwidth=30GB/s --set sram=4MiB`;
    `edgefusion simulate tiny.npub --trace trace.pftrace`.

    `image ms` and all percentages count every evaluation of an image; `one run` is one evaluation.
    `--csv` has the ops, costliest first, `--components-csv` the components. Where sizes or the
    schedule change, the bundle is lowered again; no source is needed.
    """
    from edgefusion.runtime.latency import total_label
    from edgefusion.toolchain.reporting.documents import latency_document, ranked_rows
    from edgefusion.toolchain.reporting.selection import select_ops

    with progress() as say:
        what_if = WhatIf(settings or (), target, schedule, steps, lower_again)
        profile = timed(bundle, what_if, components, say)
        chosen = select_ops(profile.ops, ops) if ops else None
        document = latency_document(profile, chosen)
        if trace:
            _write_trace(profile, trace, say)
    ranked = ranked_rows(profile, chosen)
    label = total_label(document["components"])
    table = component_table(document, f"Latency of {heading(document)}")
    count = top if top is not None else 0 if ops else COSTLIEST
    suffix = f" ({', '.join(ops)})" if ops else ""
    if components_csv:
        write_text(components_csv, table.csv(), Kind.CSV)
    emit(
        [op_table(ranked, "")],
        lambda: document,
        json_to=json_to,
        csv_to=csv_to,
        lines=change_lines(document),
        shown=[table, engine_table(document), costliest_table(ranked, label, count, suffix)],
        quiet=is_stdout(components_csv),
    )


def _write_trace(profile: Profile, path: Path, say: Say) -> None:
    from edgefusion.toolchain.reporting.traces.write import write_trace_file

    write_trace_file(path, profile, say)
