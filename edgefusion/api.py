"""The public Python API: compile a source to bundles, time a bundle, account for its traffic.

from edgefusion import compile_source, open_bundle, simulate_bundle, traffic_of

result = compile_source("bk-sdm-tiny", output="tiny.npub", schedules=("mlt",))
print(simulate_bundle(open_bundle("tiny.npub")).total_ms)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.latency import PipelineLatency
from edgefusion.toolchain.compiling.compile_source import CompileResult, compile_source

if TYPE_CHECKING:
    from edgefusion.runtime.ledger import Ledger

__all__ = ["CompileResult", "compile_source", "open_bundle", "simulate_bundle", "traffic_of"]


def open_bundle(path: Path | str, *, verify: bool = True) -> Bundle:
    """Open and check a bundle; see ``Bundle.open``."""
    return Bundle.open(path, verify=verify)


def simulate_bundle(
    bundle: Bundle, *, components: Iterable[str] | None = None, verify: bool = True
) -> PipelineLatency:
    """Time a bundle's programs on the machine that they were compiled for."""
    from edgefusion.runtime.measurement import component_latency

    return PipelineLatency(
        tuple(
            (
                component_latency(bundle.program(name, verify=verify), bundle.machine),
                bundle.manifest.component(name).evaluations,
            )
            for name in components or bundle.components
        )
    )


def traffic_of(bundle: Bundle, *, verify: bool = True) -> tuple[tuple[Ledger, int], ...]:
    """Each component's ledger of DRAM traffic (one evaluation), and how often it runs."""
    from edgefusion.runtime.ledger import traffic_ledger

    return tuple(
        (
            traffic_ledger(bundle.program(name, verify=verify), bundle.machine),
            bundle.manifest.component(name).evaluations,
        )
        for name in bundle.components
    )
