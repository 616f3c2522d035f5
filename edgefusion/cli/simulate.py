"""``edgefusion simulate``: the latency of a bundle, by component, engine and op."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefusion.cli.latency_tables import component_table, op_table
from edgefusion.cli.options import BundleArgument
from edgefusion.cli.output import JsonOption, emit, progress, write_text
from edgefusion.cli.paths import Writes, WritesIn
from edgefusion.runtime.file_kinds import Kind, trace_kind

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

app = typer.Typer(add_completion=False)


@app.command()
def simulate(
    bundle: BundleArgument,
    json_to: JsonOption = None,
    csv_dir: Annotated[
        Path | None,
        typer.Option("--csv", metavar="DIR", help="Write components.csv and ops.csv there."),
        WritesIn({"components.csv": Kind.CSV, "ops.csv": Kind.CSV}),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a trace for ui.perfetto.dev; JSON if it ends so."),
        Writes(trace_kind),
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="How many of the costliest ops to show.")] = 10,
) -> None:
    """Time a bundle on the machine it was compiled for.

    Examples: `edgefusion simulate tiny.npub`; `edgefusion simulate tiny.npub --json - | jq
    .pipeline.total_ms`; `edgefusion simulate tiny.npub --trace trace.pftrace`.

    Figures of a component are of one evaluation; an image is the sum over all evaluations.
    """
    from edgefusion.api import open_bundle, simulate_bundle

    with progress() as say:
        say(f"checking {bundle}")
        opened = open_bundle(bundle)
        say(f"simulating {', '.join(opened.components)}")
        document = simulate_bundle(opened).to_json()
        if trace:
            say(f"writing {trace}")
            _write_trace(opened, trace)
    schedule, machine = opened.manifest.schedule, opened.machine.name
    components = component_table(document, f"Latency of {bundle.name}, {schedule} on {machine}")
    if csv_dir:
        write_text(str(csv_dir / "components.csv"), components.csv(), Kind.CSV)
        write_text(str(csv_dir / "ops.csv"), op_table(document, "").csv(), Kind.CSV)
    tables = [components]
    if top:
        tables.append(op_table(document, f"The {top} costliest ops (one evaluation)", top))
    emit(tables, lambda: document, json_to=json_to)


def _write_trace(bundle: Bundle, path: Path) -> None:
    from edgefusion.toolchain.profiling.profile import profile_bundle
    from edgefusion.toolchain.reporting.trace import write_trace_file

    write_trace_file(path, profile_bundle(bundle, verify=False))
