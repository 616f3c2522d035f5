"""Tables of latency and traffic, from the documents of ``toolchain.reporting``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgefusion.cli.table import Column, Table
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.latency import total_label
from edgefusion.runtime.simulator import STALL_REASONS
from edgefusion.toolchain.reporting.number_forms import (
    megabytes,
    milliseconds,
    percent,
    ratio,
    whole,
)

COSTLIEST = 10
"""How many ops a table of the costliest shows unless told otherwise."""

_COMPONENTS = (
    Column("component", "component", keep=True),
    Column("evaluations", "runs", whole),
    Column("image_latency_ms", "image ms", milliseconds, keep=True),
    Column("share_percent", "%", percent),
    Column("latency_ms", "one run ms", milliseconds),
    Column("bound_ms", "bound ms", milliseconds),
    Column("ratio", "× bound", ratio),
    Column("fused_bound_ms", "fused bound ms", milliseconds, detail=True),
    Column("fused_ratio", "× fused", ratio),
    Column("dma_busy_ms", "DMA ms", milliseconds, detail=True),
    Column("tensor_busy_ms", "tensor ms", milliseconds, detail=True),
    Column("vector_busy_ms", "vector ms", milliseconds, detail=True),
    Column("host_busy_ms", "host ms", milliseconds, detail=True),
    Column("dram_read_bytes", "read MB", megabytes, detail=True),
    Column("dram_write_bytes", "written MB", megabytes, detail=True),
    Column("instructions", "instructions", whole, detail=True),
)
_OPS = (
    Column("component", "component", shown=False),
    Column("path", "module", path=True, keep=True),
    Column("module", "module", shown=False),
    Column("kind", "kind"),
    Column("image_latency_ms", "image ms", milliseconds, keep=True),
    Column("share_percent", "%", percent, keep=True),
    Column("cumulative_percent", "cum. %", percent),
    Column("limited_by", "limited by", keep=True),
    Column("ratio", "× bound", ratio),
    Column("name", "op", detail=True),
    Column("evaluations", "runs", whole, detail=True),
    Column("latency_ms", "one run ms", milliseconds, detail=True),
    Column("bound_ms", "bound ms", milliseconds, detail=True),
    Column("stall_ms", "stalled ms", milliseconds, detail=True),
    Column("dma_busy_ms", "DMA ms", milliseconds, detail=True),
    Column("tensor_busy_ms", "tensor ms", milliseconds, detail=True),
    Column("vector_busy_ms", "vector ms", milliseconds, detail=True),
    Column("host_busy_ms", "host ms", milliseconds, detail=True),
    Column("dram_read_bytes", "read MB", megabytes, detail=True),
    Column("dram_write_bytes", "written MB", megabytes, detail=True),
    Column("spill_bytes", "spilled MB", megabytes, detail=True),
    Column("reread_bytes", "reread MB", megabytes, detail=True),
    Column("macs", "MACs", whole, detail=True),
    Column("instructions", "instructions", whole, detail=True),
    Column("tile", "tile", detail=True),
)
_CAUSES = (
    Column("component", "component", keep=True),
    Column("evaluations", "runs", whole),
    Column("name", "cause", keep=True),
    Column("image_bytes", "MB", megabytes, keep=True),
    Column("share_percent", "%", percent),
    Column("image_read_bytes", "read MB", megabytes),
    Column("image_write_bytes", "written MB", megabytes),
)


def component_table(document: dict[str, Any], title: str) -> Table:
    """A row a component of ``latency_document``."""
    rows = []
    for name, entry in document["components"].items():
        ratios = {
            key: entry["latency_ms"] / entry[bound] if entry[bound] else None
            for key, bound in (("ratio", "bound_ms"), ("fused_ratio", "fused_bound_ms"))
        }
        rows.append({"component": name, **entry, **ratios})
    pipeline = document["pipeline"]
    total, bound = pipeline["total_ms"], pipeline["bound_ms"]
    times = f", {total / bound:.2f} times its bound of {bound:,.3f} ms" if bound else ""
    if fused := pipeline["fused_bound_ms"]:
        times += f", {total / fused:.2f} times the fused one of {fused:,.3f} ms"
    label = total_label(document["components"])
    return Table(title, _COMPONENTS, rows, f"{label}: {total:,.3f} ms{times}")


def engine_table(document: dict[str, Any]) -> Table:
    """A row an engine of each component: what it did with the time of one run, in percent."""
    rows: list[dict[str, Any]] = []
    for name, entry in document["components"].items():
        whole_ms = entry["latency_ms"]
        for engine in entry["engines"]:
            parts = {"busy": engine["busy_ms"], **engine["stalls_ms"], "idle": engine["idle_ms"]}
            shares = {part: 100 * ms / whole_ms if whole_ms else None for part, ms in parts.items()}
            rows.append({"component": name, "engine": engine["engine"], **shares})
    reasons = [each for each in STALL_REASONS if any(row[each] for row in rows)]
    kinds = {kind.name.lower() for kind in EngineKind}
    columns = (
        Column("component", "component", keep=True),
        Column("engine", "engine", keep=True),
        Column("busy", "busy", percent, keep=True),
        *(Column(each, f"for {each}" if each in kinds else each, percent) for each in reasons),
        Column("idle", "idle", percent),
    )
    title = "Engines, % of one run's latency: busy, waiting (for a kind of engine, ...), idle"
    return Table(title, columns, rows)


def op_table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """Rows of ``toolchain.reporting.documents.ranked_rows``, all of them."""
    return Table(title, _OPS, [_with_causes(row) for row in rows])


def costliest_table(
    rows: Sequence[dict[str, Any]], label: str, top: int = COSTLIEST, suffix: str = ""
) -> Table:
    """The first ``top`` of ranked rows (all for 0), titled with what ``label`` is the whole."""
    shown = rows[:top] if top else rows
    everything = len(shown) == len(rows)
    count = f"The {len(shown)} costliest" if not everything else f"All {len(rows)}"
    share = sum(row["share_percent"] for row in shown)
    title = f"{count} ops of {label}{suffix}: {share:.1f} % of its latency"
    table = op_table(shown, title)
    if everything:
        return table
    note = f"{len(rows) - len(shown)} more ops; --top 0 shows all."
    return Table(title, table.columns, table.rows, note)


def _with_causes(row: dict[str, Any]) -> dict[str, Any]:
    causes = row["dram_bytes_by_cause"]
    return {**row, **{f"{cause}_bytes": causes.get(cause, 0) for cause in ("spill", "reread")}}


def cause_table(document: dict[str, Any], title: str) -> Table:
    """Bytes of an image by component and cause, from ``traffic_document``."""
    label, total = total_label(document["components"]), document["total_bytes"]
    note = f"{label}: {total / 1e6:,.2f} MB (10^6 bytes)"
    return Table(title, _CAUSES, document["image"]["cause"], note)
