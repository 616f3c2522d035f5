"""A bundle's components, as ``compile`` and ``inspect`` show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgefusion.cli.table import Column, Table
from edgefusion.runtime.pipeline_roles import network_of
from edgefusion.toolchain.reporting.number_forms import megabytes, milliseconds, whole

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.manifest import ComponentInfo, Manifest

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


def component_rows(
    manifest: Manifest, latencies: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row a component, and one for what of it runs once a prompt; ``latencies`` are entries of
    latency.json by name. Memory, weights and what runs on the host are told of whole components."""
    return [
        {
            "component": name,
            "precision": info.precision,
            "evaluations": entry["evaluations"],
            "instructions": entry["instructions"],
            "latency_ms": entry["latency_ms"],
            **_sizes(manifest, info, whole=info.name == name),
        }
        for name, entry in latencies.items()
        for info in (manifest.component(network_of(name)),)
    ]


def _sizes(manifest: Manifest, info: ComponentInfo, *, whole: bool) -> dict[str, int | None]:
    sizes = {
        "sram_bytes": info.sram_bytes,
        "dram_bytes": info.dram_bytes,
        "weight_bytes": manifest.members[f"{info.name}/weights.safetensors"].nbytes,
        "host_ops": len(info.host_ops),
    }
    return {key: value if whole else None for key, value in sizes.items()}


def components_table(rows: list[dict[str, Any]]) -> Table:
    """The table of ``component_rows``."""
    return Table("Components", _COLUMNS, rows)
