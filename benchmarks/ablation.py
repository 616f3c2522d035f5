"""What each mechanism of ``pipelined`` is worth, at full size: from ``serial`` to groups.

One mechanism is added at a time to the three components of BK-SDM-Tiny. Then the whole of it over
sizes of SRAM and DRAM bandwidths beside ``mlt``, and with the machine parameters that are inferred,
not published, at other values. A plot of each stands beside the figures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import Grouping, Schedule, schedule_named
from edgefusion.models.architectures import Component
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.measurement import component_latency
from edgefusion.runtime.program import Program
from edgefusion.runtime.settings import parse_settings
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.paper.programs import Programs

PRESET = "bk-sdm-tiny"
RUNS: Mapping[Component, int] = {"text_encoder": 1, "unet": 2, "vae_decoder": 1}
"""Evaluations of each component for a two-step image."""
MIB = 1 << 20
SRAM_MIB = (1, 2, 4, 6, 8, 12, 16)
BANDWIDTH_GB_PER_S = (6, 10, 14, 20, 30, 45, 68)
SENSITIVITY = (
    ("tensor_rate.w8a16=0.25", "W8A16 at half the rate"),
    ("tensor_rate.fp16=0.25", "FP16 at half the rate"),
    ("tensor_drain=2x", "results leave the array twice as fast"),
    ("tensor_feed=2x", "operands stream twice as fast"),
    ("tensor_load=0.5x", "operands are loaded half as fast"),
)


def steps() -> Iterator[tuple[str, Schedule]]:
    """The schedules compared, each with one mechanism more than the one before."""
    yield "serial", schedule_named("serial")
    yield "mlt: attention in SRAM", schedule_named("mlt")
    pipelined = schedule_named("pipelined")
    alone = Grouping(resident=False, rolling=False, repeats=False, gated=False)
    yield "engines overlap", replace(pipelined, groups=None)
    yield "tensors stay in SRAM", replace(pipelined, groups=replace(alone, resident=True))
    rolling = replace(alone, resident=True, rolling=True)
    yield "stripes roll through groups", replace(pipelined, groups=rolling)
    yield (
        "second computation at statistics",
        replace(pipelined, groups=replace(rolling, repeats=True)),
    )
    yield (
        "gated products as one",
        replace(pipelined, groups=replace(rolling, repeats=True, gated=True)),
    )


def figures(program: Program, machine: Machine) -> dict[str, Any]:
    """Latency, bound and bytes of one evaluation."""
    latency = component_latency(program, machine)
    return {
        "latency_ms": latency.latency_ms,
        "bound_ms": latency.bound_ps / 1e9,
        "dram_megabytes": (latency.dram_read_bytes + latency.dram_write_bytes) / 1e6,
        **{f"{kind.name.lower()}_busy_ms": ps / 1e9 for kind, ps in latency.busy_ps.items()},
        "macs": sum(op.macs for op in program.ops),
    }


def lowered(network: Network, machine: Machine, schedule: Schedule) -> dict[str, Any]:
    """Figures of one lowering, or why there are none."""
    begin = time.process_time()
    try:
        program = lower(network, machine, schedule).program
    except DoesNotFitError as error:
        return {"refused": str(error)}
    seconds = time.process_time() - begin
    return {**figures(program, machine), "lowering_cpu_s": seconds}


def image_ms(rows: Mapping[Component, Mapping[str, Any]]) -> float | None:
    """Latency of a two-step image, if every component has one."""
    if any("latency_ms" not in row for row in rows.values()):
        return None
    return float(sum(RUNS[name] * rows[name]["latency_ms"] for name in RUNS))


def compare(
    networks: Mapping[Component, Network], machine: Machine, schedule: Schedule
) -> dict[str, Any]:
    """All components under one schedule."""
    rows = {name: lowered(network, machine, schedule) for name, network in networks.items()}
    return {"image_ms": image_ms(rows), "components": rows}


def main() -> dict[str, Any]:
    """Ablation, curves and sensitivity; some 40 minutes of one core."""
    machine = load_target("exynos2400").machine
    programs = Programs(machine, print)
    networks = {name: programs.network(PRESET, name) for name in RUNS}
    result: dict[str, list[dict[str, Any]]] = {
        "ablation": [],
        "sram": [],
        "bandwidth": [],
        "sensitivity": [],
    }

    def add(table: str, label: dict[str, Any], on: Machine, schedule: Schedule) -> None:
        row = {**label, **compare(networks, on, schedule)}
        result.setdefault(table, []).append(row)
        print(table, label, row["image_ms"], flush=True)

    for name, schedule in steps():
        add("ablation", {"step": name}, machine, schedule)
    for schedule in (schedule_named("mlt"), schedule_named("pipelined")):
        for size in SRAM_MIB:
            other = replace(machine, sram_bytes=size * MIB)
            add("sram", {"sram_mib": size, "schedule": schedule.name}, other, schedule)
        for rate in BANDWIDTH_GB_PER_S:
            other = replace(machine, dma_bandwidth_bytes_per_s=rate * 1e9)
            label = {"gigabytes_per_s": rate, "schedule": schedule.name}
            add("bandwidth", label, other, schedule)
    for setting, meaning in SENSITIVITY:
        other = machine.with_values(**parse_settings([setting], machine))
        label = {"setting": setting, "meaning": meaning}
        add("sensitivity", label, other, schedule_named("pipelined"))
    _draw(result, Path(__file__).parent / "results" / "ablation.html")
    return result


def _draw(result: Mapping[str, list[dict[str, Any]]], path: Path) -> None:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=3, subplot_titles=("mechanisms", "SRAM, MiB", "DRAM, GB/s"))
    names = [row["step"] for row in result["ablation"]]
    for component, runs in RUNS.items():
        values = [
            runs * row["components"][component].get("latency_ms", 0) for row in result["ablation"]
        ]
        figure.add_trace(go.Bar(x=names, y=values, name=component), row=1, col=1)
    for column, (table, key) in enumerate(
        (("sram", "sram_mib"), ("bandwidth", "gigabytes_per_s")), start=2
    ):
        for schedule in ("mlt", "pipelined"):
            rows = [row for row in result[table] if row["schedule"] == schedule]
            x, y = [row[key] for row in rows], [row["image_ms"] for row in rows]
            figure.add_trace(go.Scatter(x=x, y=y, name=schedule), row=1, col=column)
    figure.update_layout(barmode="stack", title="Two-step image, ms", height=520)
    figure.update_yaxes(rangemode="tozero")
    figure.write_html(path, include_plotlyjs="cdn")
