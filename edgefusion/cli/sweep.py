"""``edgefusion sweep``: a bundle on many machines, schedules and steps, as a table and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.options import BundleArgument
from edgefusion.cli.output import CsvOption, JsonOption, emit, progress, write_text
from edgefusion.cli.paths import Reads, Writes
from edgefusion.cli.table import Column, Table
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.settings import setting_text, short_name
from edgefusion.toolchain.reporting.number_forms import megabytes, milliseconds, signed_percent

if TYPE_CHECKING:
    from edgefusion.toolchain.exploring.sweep import Sweep

app = typer.Typer(add_completion=False)


@app.command()
def sweep(
    bundle: BundleArgument,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=V1,V2,...",
            help="Values of a machine parameter: sram=2MiB,4MiB, sram=1MiB:8MiB:*2 (powers), "
            "dma_bandwidth=10GB/s:60GB/s:10GB/s, clock=0.5x,1x,2x.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE.toml", help="Machines, once for each, or A,B."),
        Reads(),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="A,B", help="Of serial, mlt, pipelined.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="N,N", help="Denoising steps of an image.")
    ] = None,
    lower_again: Annotated[
        bool,
        typer.Option(
            "--lower-again",
            help="Choose tiles for each machine, also where only rates differ.",
        ),
    ] = False,
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE.html", help="Draw it: one file, no network needed."),
        Writes(Kind.HTML),
    ] = None,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """Time a bundle on every combination of machine values, targets, schedules and steps.

    Examples: `edgefusion sweep tiny.npub --set dma_bandwidth=10GB/s:60GB/s:10GB/s`;
    `edgefusion sweep tiny.npub --set sram=1MiB:8MiB:*2 --schedule mlt,pipelined --plot sweep.html`;
    `edgefusion sweep tiny.npub --target exynos2400,half.toml --steps 1,2,4 --csv -`.

    Where only rates differ, the bundle's program is timed as it is: what a faster memory does to
    this very program. Where sizes or the schedule differ, or with `--lower-again`, its network is
    lowered again. A point that does not fit its machine says so in its row.
    """
    from edgefusion.api import open_bundle
    from edgefusion.toolchain.exploring.sweep import sweep as run

    with progress() as say:
        say(f"checking {bundle}")
        found = run(
            open_bundle(bundle),
            settings or (),
            targets=[name for each in target or () for name in _names(each)],
            schedules=_names(schedule),
            steps=_counts(steps),
            lower_again=lower_again,
            progress=say,
        )
        title = f"{bundle.name}: {found.about['schedule']} on {found.about['target']}, swept"
        if plot:
            from edgefusion.toolchain.exploring.plots import html, sweep_figure

            say(f"drawing {plot}")
            write_text(plot, html(sweep_figure(found, title), title), Kind.HTML)
    emit([sweep_table(found, title)], found.to_json, json_to=json_to, csv_to=csv_to)


def sweep_table(found: Sweep, title: str) -> Table:
    """A row a point, from what ``Sweep.to_json`` says of it."""
    document = found.to_json()
    own = document["own"]
    named = ("target", "schedule", "steps")
    keys = dict.fromkeys(key for point in document["points"] for key in point["settings"])
    components = list(own["components_ms"])
    rows = []
    for point in document["points"]:
        times: dict[str, Any] = point["components_ms"] or {}
        rows.append(
            point
            | {key: point["settings"][key] for key in keys}
            | {f"{name}_ms": times.get(name) for name in components}
            | {"program": "lowered again" if point["lowered_again"] else "as it is"}
        )
    columns = (
        *(Column(key, short_name(key), _setting(key), keep=True) for key in keys),
        *(Column(name, name) for name in named if name in found.varied),
        Column("latency_ms", "latency ms", milliseconds, keep=True),
        Column("change_percent", "% of own", signed_percent),
        Column("bound_ms", "bound ms", milliseconds),
        Column("dram_bytes", "DRAM MB", megabytes),
        *(Column(f"{name}_ms", f"{name} ms", milliseconds) for name in components),
        Column("program", "program"),
        *(Column(name, name, detail=True) for name in named if name not in found.varied),
        *([Column("problem", "why not", keep=True)] if any(row["problem"] for row in rows) else []),
    )
    note = (
        f"As compiled: {own['latency_ms']:,.3f} ms, bound {own['bound_ms']:,.3f} ms, "
        f"{own['dram_bytes'] / 1e6:,.2f} MB. Latency, bound and DRAM are of an image, those of "
        "components of one evaluation."
    )
    return Table(title, columns, rows, note)


def _setting(key: str) -> Any:
    return lambda value: setting_text(key, value)


def _names(text: str | None) -> Sequence[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _counts(text: str | None) -> list[int]:
    counts = _names(text)
    if not all(count.isdecimal() for count in counts):
        raise UsageError(f"--steps {text}: expected whole numbers, as in --steps 1,2,4.")
    return [int(count) for count in counts]
