"""The tilings that the compiler considered for ops of a bundle, and why it took the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgefusion.cli.table import Column, Table
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.reporting.number_forms import megabytes, milliseconds, percent, whole

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

SCHEMA_VERSION = 2

_COLUMNS = (
    Column("component", "component", shown=False),
    Column("op", "op", shown=False),
    Column("module", "module", shown=False),
    Column("rank", "#", whole, keep=True),
    Column("tiling", "tiling", keep=True),
    Column("time_us", "time µs", milliseconds),
    Column("slower_percent", "slower %", percent, detail=True),
    Column("sram_bytes", "SRAM MB", megabytes, keep=True),
    Column("dma_bytes", "DMA MB", megabytes, keep=True),
    Column("rejected", "rejected because", keep=True),
    Column("instructions", "instructions", whole, detail=True),
    Column("slots", "slots", whole, detail=True),
)


def tile_document(bundle: Bundle, text: str, components: Sequence[str], say: Say) -> dict[str, Any]:
    """What was considered for the ops that ``text`` means; see ``reporting.tile_choices``."""
    from edgefusion.toolchain.reporting.tile_choices import tile_choices

    ops = tile_choices(bundle, text, components, progress=say)
    return {"schema_version": SCHEMA_VERSION, "ops": ops}


def tile_tables(document: dict[str, Any]) -> list[Table]:
    """A table an op of a ``tile_document``."""
    return [
        Table(
            f"Tilings of {op['component']}.{op['op']}, {op['kind']} of {op['module']} "
            f"({op['schedule']}, one run)",
            _COLUMNS,
            _rows(op),
            _note(op),
        )
        for op in document["ops"]
    ]


def all_tilings(document: dict[str, Any]) -> Table:
    """The same in one table, for CSV."""
    rows = [row for op in document["ops"] for row in _rows(op)]
    return Table("Tilings", _COLUMNS, rows)


def _rows(op: dict[str, Any]) -> list[dict[str, Any]]:
    names = {key: op[key] for key in ("component", "op", "module")}
    return [{**names, **candidate} for candidate in op["candidates"]]


def _note(op: dict[str, Any]) -> str:
    second = f"; runner-up {op['runner_up']}: {op['lost_because']}" if op["runner_up"] else ""
    return f"taken: {op['taken']}{second}. SRAM has {megabytes(op['sram_limit_bytes'])} MB."
