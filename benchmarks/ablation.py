"""What each mechanism of ``pipelined`` is worth, at full size: from ``serial`` to groups.

One mechanism is added at a time to the three components of BK-SDM-Tiny. Then the whole of it over
sizes of SRAM and DRAM bandwidths beside ``mlt``, and with the machine parameters that are inferred,
not published, at other values. A plot of each stands beside the figures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise, repeat
from math import inf
from pathlib import Path
from typing import Any

from edgefusion.benchmarks.loading_ahead import ahead_ps
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import Grouping, Schedule, schedule_named
from edgefusion.models.source import resolve_source
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.latency import ComponentLatency
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.measurement import component_latency
from edgefusion.runtime.program import Program
from edgefusion.runtime.program_parts import parts_of
from edgefusion.runtime.settings import parse_settings
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.paper.programs import build_networks

PRESET = "bk-sdm-tiny"
RUNS: Mapping[str, int] = {"text_encoder": 1, "unet": 2, "vae_decoder": 1}
"""Evaluations of each component for a two-step image."""
MIB = 1 << 20
SRAM_MIB = (1, 2, 4, 6, 8, 16)
BANDWIDTH_GB_PER_S = (6, 10, 20, 40, 68)
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
    alone = Grouping(resident=False, rolling=False, repeats=False, gated=False, once=False)
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
    yield PHASES, replace(pipelined, groups=Grouping(once=False))
    yield ONCE, pipelined


PHASES = "convolutions of doubled images by phases"
"""The one mechanism that is a pass: the network is another (``transpose_upsampled_conv``)."""
ONCE = "keys and values of the prompt once"


def figures(program: Program, machine: Machine) -> dict[str, Any]:
    """Latency, bound and bytes of one evaluation, and those of what runs once before them."""
    *once, latency = (component_latency(part, machine) for part in parts_of(program))
    return {
        "latency_ms": latency.latency_ms,
        "once_ms": sum(each.latency_ms for each in once),
        "once_dram_megabytes": sum(_dram_bytes(each) for each in once) / 1e6,
        "bound_ms": latency.bound_ps / 1e9,
        "fused_bound_ms": latency.fused_bound_ms,
        "ahead_ms": ahead_ps(latency, machine) / 1e9,
        "dram_megabytes": _dram_bytes(latency) / 1e6,
        **{f"{kind.name.lower()}_busy_ms": ps / 1e9 for kind, ps in latency.busy_ps.items()},
        "macs": sum(op.macs for op in program.ops),
    }


def _dram_bytes(latency: ComponentLatency) -> int:
    return latency.dram_read_bytes + latency.dram_write_bytes


def lowered(network: Network, machine: Machine, schedule: Schedule) -> dict[str, Any]:
    """Figures of one lowering, or why there are none."""
    begin = time.process_time()
    try:
        program = lower(network, machine, schedule).program
    except DoesNotFitError as error:
        return {"refused": str(error)}
    seconds = time.process_time() - begin
    return {**figures(program, machine), "lowering_cpu_s": seconds}


def image_ms(rows: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Latency of a two-step image, if every component has one."""
    if any("latency_ms" not in row for row in rows.values()):
        return None
    return float(sum(component_ms(name, rows[name]) for name in RUNS))


def component_ms(name: str, row: Mapping[str, Any]) -> float:
    """What a component takes of a two-step image."""
    return float(row.get("once_ms", 0) + RUNS[name] * row.get("latency_ms", 0))


@dataclass(frozen=True)
class Job:
    """A row of one of the tables, and what it is lowered for."""

    table: str
    label: Mapping[str, Any]
    machine: Machine
    schedule: Schedule


def jobs(machine: Machine) -> Iterator[Job]:
    """All rows, table by table."""
    for name, schedule in steps():
        yield Job("ablation", {"step": name}, machine, schedule)
    for name in ("mlt", "pipelined"):
        schedule = schedule_named(name)
        for size in SRAM_MIB:
            other = replace(machine, sram_bytes=size * MIB)
            yield Job("sram", {"sram_mib": size, "schedule": name}, other, schedule)
        for rate in BANDWIDTH_GB_PER_S:
            other = replace(machine, dma_bandwidth_bytes_per_s=rate * 1e9)
            label = {"gigabytes_per_s": rate, "schedule": name}
            yield Job("bandwidth", label, other, schedule)
    for setting, meaning in SENSITIVITY:
        other = machine.with_values(**parse_settings([setting], machine))
        label = {"setting": setting, "meaning": meaning}
        yield Job("sensitivity", label, other, schedule_named("pipelined"))


def row_of(
    job: Job, plain: Mapping[str, Network], all_passes: Mapping[str, Network]
) -> dict[str, Any]:
    """All components: the network of ``plain`` up to ``PHASES`` and for ``mlt``."""
    method = job.label.get("schedule") == "mlt" or job.label.get("step", ONCE) not in (PHASES, ONCE)
    networks = plain if method else all_passes
    rows = {name: lowered(network, job.machine, job.schedule) for name, network in networks.items()}
    row = {**job.label, "image_ms": image_ms(rows), "components": rows}
    print(job.table, job.label, row["image_ms"], flush=True)
    return row


def reversals(result: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Where ``pipelined`` is slower than ``mlt``, or more of something is."""
    found = []
    for table, key in (("sram", "sram_mib"), ("bandwidth", "gigabytes_per_s")):
        at = {(row[key], row["schedule"]): row["components"] for row in result[table]}
        for name in RUNS:
            times = {place: rows[name].get("latency_ms", inf) for place, rows in at.items()}
            values = sorted({value for value, _ in at})
            found += [
                f"{name}: pipelined slower than mlt at {key} {value}"
                for value in values
                if times[value, "pipelined"] > times[value, "mlt"]
            ]
            for schedule in ("mlt", "pipelined"):
                found += [
                    f"{name}: {schedule} slower at {key} {more} than at {less}"
                    for less, more in pairwise(values)
                    if times[more, schedule] > times[less, schedule]
                ]
    return found


def main() -> dict[str, Any]:
    """Ablation, curves and sensitivity; some 15 minutes of two cores."""
    machine = load_target("exynos2400").machine
    source = resolve_source(PRESET, random_weights_seed=0)
    plain: dict[str, Network] = {}
    all_passes: dict[str, Network] = {}
    for name in RUNS:
        built = build_networks(source, name, machine, print, (False, True))
        plain[name], all_passes[name] = built
    todo = list(jobs(machine))
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(row_of, todo, repeat(plain), repeat(all_passes)))
    result: dict[str, list[dict[str, Any]]] = {}
    for job, row in zip(todo, rows, strict=True):
        result.setdefault(job.table, []).append(row)
    _draw(result, Path(__file__).parent / "results" / "ablation.html")
    return {**result, "reversals": reversals(result)}


def _draw(result: Mapping[str, list[dict[str, Any]]], path: Path) -> None:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=3, subplot_titles=("mechanisms", "SRAM, MiB", "DRAM, GB/s"))
    names = [row["step"] for row in result["ablation"]]
    for component in RUNS:
        values = [
            component_ms(component, row["components"][component]) for row in result["ablation"]
        ]
        figure.add_trace(go.Bar(x=names, y=values, name=component), row=1, col=1)
    for column, (table, key) in enumerate(
        (("sram", "sram_mib"), ("bandwidth", "gigabytes_per_s")), start=2
    ):
        for schedule in ("mlt", "pipelined"):
            rows = [row for row in result[table] if row["schedule"] == schedule]
            x, y = [row[key] for row in rows], [row["image_ms"] for row in rows]
            line = go.Scatter(
                x=x,
                y=y,
                name=schedule,
                line_color={"mlt": "gray", "pipelined": "black"}[schedule],
                showlegend=table == "sram",
            )
            figure.add_trace(line, row=1, col=column)
    figure.update_layout(barmode="stack", title="Two-step image, ms", height=520)
    figure.update_yaxes(rangemode="tozero")
    figure.write_html(path, include_plotlyjs="cdn")
