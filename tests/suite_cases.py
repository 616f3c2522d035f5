"""Figures and baselines made by hand, for tests of suites."""

from __future__ import annotations

from dataclasses import replace

from edgefusion.toolchain.suites.baseline import Baseline, Reason
from edgefusion.toolchain.suites.figures import Conditions, Figures, OpFigures

CONDITIONS = Conditions(
    tool_version="1.0",
    cost_model_version=2,
    target="phone",
    target_digest="d1",
    schedule="mlt",
    steps=2,
    source="model",
    source_digest="5" * 64,
    parameters={"sram_bytes": 4096, "clock_hz": 1e9, "vector_cycles.softmax": 13.5},
)


def figures(conv_ps: int = 3_000_000_000, tile: str = "rows=8", nbytes: int = 100) -> Figures:
    """A U-Net of two ops that runs twice; ``conv_ps``, ``tile`` and ``nbytes`` are its conv's."""
    latency = conv_ps + 1_000_000_000
    return Figures(
        CONDITIONS,
        {
            "pipeline": {
                "latency_ps": 2 * latency,
                "bound_ps": 5,
                "dram_bytes": 2 * (nbytes + 50),
                "dram_bytes_by_cause.weight": 2 * (nbytes + 50),
            },
            "unet": {
                "evaluations": 2,
                "latency_ps": latency,
                "bound_ps": 2,
                "instructions": 7,
                "sram_bytes": 2048,
                "busy_ps.dma": conv_ps,
                "busy_ps.tensor": 10,
                "dram_bytes_by_cause.weight": nbytes + 50,
            },
        },
        {
            "unet": {
                "down.0 conv": OpFigures(conv_ps, nbytes, tile),
                'odd "name" #2': OpFigures(1_000_000_000, 50, ""),
            }
        },
    )


def baseline(of: Figures | None = None) -> Baseline:
    """A baseline with one reason."""
    return Baseline(of or figures(), (Reason("first", 8_000_000_000, "1.0", 2),))


def under(conditions: Conditions) -> Figures:
    """The same figures under other conditions."""
    return replace(figures(), conditions=conditions)
