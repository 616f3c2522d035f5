"""A bundle's components, as ``compile`` and ``inspect`` show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgefusion.cli.table import Column, Table
from edgefusion.toolchain.reporting.number_forms import megabytes, milliseconds, whole

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.manifest import Manifest

_COLUMNS = (
    Column("component", "component", keep=True),
    Column("precision", "precision"),
    Column("evaluations", "runs", whole),
    Column("instructions", "instructions", whole, detail=True),
    Column("latency_ms", "one run ms", milliseconds),
    Column("sram_bytes", "SRAM MB", megabytes),
    Column("dram_bytes", "DRAM MB", megabytes),
    Column("weight_bytes", "weights MB", megabytes),
    Column("host_ops", "host ops", whole),
)


def component_rows(manifest: Manifest, latency_ms: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row a component; ``latency_ms`` is that of one evaluation, by component."""
    return [
        {
            "component": info.name,
            "precision": info.precision,
            "evaluations": info.evaluations,
            "instructions": info.instructions,
            "latency_ms": latency_ms[info.name],
            "sram_bytes": info.sram_bytes,
            "dram_bytes": info.dram_bytes,
            "weight_bytes": manifest.members[f"{info.name}/weights.safetensors"].nbytes,
            "host_ops": len(info.host_ops),
        }
        for info in manifest.components
    ]


def components_table(rows: list[dict[str, Any]]) -> Table:
    """The table of ``component_rows``."""
    return Table("Components", _COLUMNS, rows)
