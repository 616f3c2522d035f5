"""Tables of latency and traffic, from the JSON records of ``runtime.latency`` and ``.ledger``."""

from __future__ import annotations

from typing import Any

from edgefusion.cli.table import Column, Table, megabytes, milliseconds, percent, ratio, whole
from edgefusion.runtime.latency import total_label

_COMPONENTS = (
    Column("component", "component"),
    Column("evaluations", "runs", whole),
    Column("latency_ms", "latency ms", milliseconds),
    Column("bound_ms", "bound ms", milliseconds),
    Column("ratio", "× bound", ratio),
    Column("total_ms", "all runs ms", milliseconds),
    Column("tensor_busy_ms", "tensor ms", milliseconds),
    Column("vector_busy_ms", "vector ms", milliseconds),
    Column("dma_busy_ms", "DMA ms", milliseconds),
    Column("host_busy_ms", "host ms", milliseconds, detail=True),
    Column("dram_read_bytes", "read MB", megabytes),
    Column("dram_write_bytes", "written MB", megabytes),
    Column("instructions", "instructions", whole, detail=True),
)
_OPS = (
    Column("component", "component"),
    Column("name", "op"),
    Column("kind", "kind"),
    Column("latency_ms", "latency ms", milliseconds),
    Column("bound_ms", "bound ms", milliseconds),
    Column("ratio", "× bound", ratio),
    Column("dma_busy_ms", "DMA ms", milliseconds),
    Column("tensor_busy_ms", "tensor ms", milliseconds),
    Column("vector_busy_ms", "vector ms", milliseconds),
    Column("dram_read_bytes", "read MB", megabytes),
    Column("dram_write_bytes", "written MB", megabytes),
    Column("instructions", "instructions", whole, detail=True),
    Column("tile", "tile", detail=True),
)
_CAUSES = (
    Column("component", "component"),
    Column("evaluations", "runs", whole),
    Column("cause", "cause"),
    Column("bytes", "MB", megabytes),
    Column("share_percent", "%", percent),
)


def component_table(document: dict[str, Any], title: str) -> Table:
    """A row a component of ``PipelineLatency.to_json``."""
    rows = []
    for name, entry in document["components"].items():
        bound = entry["bound_ms"]
        rows.append(
            {
                "component": name,
                **entry,
                "ratio": entry["latency_ms"] / bound if bound else None,
                "total_ms": entry["evaluations"] * entry["latency_ms"],
            }
        )
    pipeline = document["pipeline"]
    total, bound = pipeline["total_ms"], pipeline["bound_ms"]
    times = f", {total / bound:.2f} times its bound of {bound:,.3f} ms" if bound else ""
    return Table(
        title, _COMPONENTS, rows, f"{total_label(document['components'])}: {total:,.3f} ms{times}"
    )


def op_table(document: dict[str, Any], title: str, count: int | None = None) -> Table:
    """Ops of ``PipelineLatency.to_json``: all in program order, or the ``count`` costliest."""
    rows = document["ops"]
    if count is not None:
        rows = sorted(rows, key=lambda row: -row["latency_ms"])[:count]
    return Table(title, _OPS, rows)


def cause_table(document: dict[str, Any], title: str) -> Table:
    """Bytes of all evaluations by component and cause, from ``pipeline_traffic_json``."""
    rows = []
    total = document["total_bytes"]
    for name, entry in document["components"].items():
        evaluations = document["evaluations"][name]
        for cause, nbytes in entry["by_cause"].items():
            if nbytes:
                moved = evaluations * nbytes
                rows.append(
                    {
                        "component": name,
                        "evaluations": evaluations,
                        "cause": cause,
                        "bytes": moved,
                        "share_percent": 100 * moved / total,
                    }
                )
    return Table(
        title,
        _CAUSES,
        rows,
        f"{total_label(document['components'])}: {total / 1e6:,.2f} MB (10^6 bytes)",
    )
