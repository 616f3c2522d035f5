"""``edgefusion alloc``: where buffers with lifetimes go in a memory, by minimalloc's files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgefusion.cli.output import CsvOption, JsonOption, emit, progress
from edgefusion.cli.paths import Reads
from edgefusion.cli.table import Column, Table
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.toolchain.reporting.number_forms import whole

SCHEMA_VERSION = 1
MOST_STEPS = 3_000_000
"""About a minute of the complete search on one core."""
app = typer.Typer(add_completion=False)

_BUFFERS = (
    Column("id", "buffer", keep=True),
    Column("lower", "from", whole),
    Column("upper", "up to", whole),
    Column("size", "bytes", whole, keep=True),
    Column("offset", "offset", whole, keep=True),
)


@app.command()
def alloc(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.csv", help="Buffers: id,lower,upper,size, as minimalloc reads them."
        ),
        Reads(),
    ],
    capacity_bytes: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="What there is; beyond it the exit code is 5."),
    ] = None,
    align_bytes: Annotated[int, typer.Option(min=1, metavar="N", help="Of every offset.")] = 1,
    most_steps: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Of the complete search, some 50,000 a second; 0: without it."
        ),
    ] = MOST_STEPS,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """Place buffers in a memory so that no two that live at once overlap, in as little of it as can
    be found: by greedy fits, a search over orders, then a complete search.

    Examples: `edgefusion alloc A.1048576.csv --capacity-bytes 1048576`; `edgefusion alloc
    buffers.csv --align-bytes 64 --json -`; `edgefusion alloc buffers.csv --csv placed.csv`, which
    is the file with a column `offset`.

    With a capacity, what fits it will do; without, the search aims at the most bytes that live at
    once, which no placement can beat. The same file gives the same offsets.
    """
    from edgefusion.compiler.memory.minimalloc_file import read_minimalloc
    from edgefusion.compiler.memory.placement import best_placement, verify_placement

    with progress() as say:
        lifetimes = read_minimalloc(file)
        say(f"placing {len(lifetimes)} buffers")
        placement = best_placement(
            lifetimes,
            align_bytes=align_bytes,
            goal_bytes=capacity_bytes,
            complete_steps=most_steps,
        )
        verify_placement(lifetimes, placement, align_bytes=align_bytes)
    height, bound = placement.height_bytes, placement.lower_bound_bytes
    fits = None if capacity_bytes is None else height <= capacity_bytes
    rows: list[dict[str, Any]] = [
        {
            "id": each.name,
            "lower": each.first,
            "upper": each.last + 1,
            "size": each.nbytes,
            "offset": placement.offsets[each.name],
        }
        for each in lifetimes
    ]
    document = {
        "schema_version": SCHEMA_VERSION,
        "file": str(file),
        "align_bytes": align_bytes,
        "capacity_bytes": capacity_bytes,
        "fits": fits,
        "height_bytes": height,
        "lower_bound_bytes": bound,
        "offsets": dict(placement.offsets),
    }
    note = f"{height:,} bytes; {bound:,} live at once, which is the least"
    if capacity_bytes is not None:
        note += f"; there are {capacity_bytes:,}"
    table = Table(f"Buffers of {file.name}", _BUFFERS, rows, note)
    emit([table], lambda: document, json_to=json_to, csv_to=csv_to)
    if fits is False:
        raise DoesNotFitError(
            f"{file}: {height} bytes are needed, and there are {capacity_bytes}: "
            f"{height - (capacity_bytes or 0)} too many. "
            + (
                f"{bound} live at once, so nothing less than that can do."
                if bound > (capacity_bytes or 0)
                else "No placement was found that fits; --most-steps lets the search go on."
            )
        )
