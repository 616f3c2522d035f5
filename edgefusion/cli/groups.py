"""The fusion groups of a bundle's programs, as ``inspect --groups`` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgefusion.cli.table import Column, Table
from edgefusion.runtime.pipeline_roles import network_of
from edgefusion.toolchain.reporting.number_forms import megabytes, milliseconds, ratio, whole

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

SCHEMA_VERSION = 1


def _operations(kinds: Sequence[str]) -> str:
    return " + ".join(kinds)


def _stays(residents: Sequence[dict[str, Any]]) -> str:
    """How long each tensor of a group stays in SRAM, and how large it is."""
    return ", ".join(
        f"{r['bytes'] / 1e6:,.2f} MB until {r['to_group']}" + (", and in DRAM" * r["in_dram"])
        for r in residents
    )


def _stripe(rows: int) -> str:
    return f"{rows:,}" if rows else ""


_COLUMNS = (
    Column("component", "component", shown=False),
    Column("group", "#", whole, keep=True),
    Column("module", "module", path=True),
    Column("kinds", "ops", _operations, keep=True),
    Column("stripe_rows", "stripe", _stripe, keep=True),
    Column("stays", "stays in SRAM", _stays, keep=True),
    Column("saved_bytes", "saved MB", megabytes, keep=True),
    Column("border", "ends here because", keep=True),
    Column("sweeps", "sweeps", whole, detail=True),
    Column("least_bytes", "least MB", megabytes, detail=True),
    Column("apart_bytes", "apart MB", megabytes, detail=True),
    Column("moved_bytes", "moved MB", megabytes, detail=True),
    Column("latency_ms", "one run ms", milliseconds, detail=True),
    Column("bound_ms", "bound ms", milliseconds, detail=True),
    Column("ratio", "× bound", ratio, detail=True),
    Column("ops", "names", detail=True),
    Column("rolling", "rolls", detail=True),
    Column("kept", "stored as well", detail=True),
    Column("shared", "loaded once", detail=True),
)


def groups_document(bundle: Bundle, components: Sequence[str]) -> dict[str, Any]:
    """The groups of ``components``; figures are of one run."""
    from edgefusion.toolchain.reporting.groups import group_rows

    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in components}
    for each in bundle.latency_json()["groups"]:
        if (name := network_of(each["component"])) in measured:
            measured[name].append(each)
    return {
        "schema_version": SCHEMA_VERSION,
        "components": {
            name: {"schedule": bundle.manifest.schedule, "groups": rows}
            for name in components
            for rows in [group_rows(bundle.program(name), measured[name])]
        },
    }


def group_tables(document: dict[str, Any]) -> list[Table]:
    """A table a component."""
    return [_table(name, entry) for name, entry in document["components"].items()]


def all_groups(document: dict[str, Any]) -> Table:
    """The same in one table, for CSV: what stays is told by its bytes and last group."""
    rows = [
        {"component": name, **row, "stays": _stays(row["stays"])}
        for name, entry in document["components"].items()
        for row in entry["groups"]
    ]
    return Table("Groups", _COLUMNS, rows)


def _table(name: str, entry: dict[str, Any]) -> Table:
    rows = entry["groups"]
    ops = sum(len(row["ops"]) for row in rows)
    saved, apart = (sum(row[key] for row in rows) for key in ("saved_bytes", "apart_bytes"))
    note = (
        f"saved: of {apart / 1e6:,.2f} MB that {ops} ops move at least, each from DRAM to "
        f"DRAM, {saved / 1e6:,.2f} MB (10^6 bytes, one run)"
    )
    title = f"Groups of {name} ({entry['schedule']}): {ops} ops in {len(rows)}"
    shown = [{"component": name, **row} for row in rows]
    return Table(title, _COLUMNS, shown, note)
