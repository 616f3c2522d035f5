"""The tilings that the compiler considered for one op of a bundle, and why it took the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgefusion.cli.table import Column, Table, milliseconds, whole

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

SCHEMA_VERSION = 1

_COLUMNS = (
    Column("rank", "#", whole),
    Column("tiling", "tiling"),
    Column("slots", "slots", whole, detail=True),
    Column("sram_bytes", "SRAM bytes", whole),
    Column("dma_bytes", "DMA bytes", whole),
    Column("instructions", "instructions", whole),
    Column("time_us", "time µs", milliseconds),
    Column("rejected", "rejected because"),
)


def tile_table(bundle: Bundle, component: str, op: str) -> tuple[Table, dict[str, Any]]:
    """Search again, on the network rebuilt from the bundle's graph; table and JSON record.

    Raises InputError for an op that the component has not.
    """
    from edgefusion.compiler.lowering.lower import candidates_of
    from edgefusion.compiler.schedule.schedule import schedule_named

    schedule = schedule_named(bundle.manifest.schedule)
    candidates = candidates_of(bundle.network(component), op, bundle.machine, schedule)
    rows = [
        {
            "rank": rank,
            "tiling": str(candidate.tiling),
            "slots": candidate.slots,
            "sram_bytes": candidate.sram_bytes,
            "dma_bytes": candidate.dma_bytes,
            "instructions": candidate.instructions,
            "time_us": candidate.time_ps / 1e6,
            "rejected": candidate.rejected,
        }
        for rank, candidate in enumerate(candidates, start=1)
    ]
    taken = {record.name: record.tile for record in bundle.program(component, verify=False).ops}
    record = {
        "schema_version": SCHEMA_VERSION,
        "component": component,
        "op": op,
        "schedule": schedule.name,
        "sram_limit_bytes": bundle.machine.sram_bytes,
        "taken": taken.get(op, ""),
        "candidates": rows,
    }
    title = f"Tilings of {op} ({component}, {schedule.name})"
    note = f"taken: {record['taken']}; SRAM has {bundle.machine.sram_bytes:,} bytes"
    return Table(title, _COLUMNS, rows, note), record
