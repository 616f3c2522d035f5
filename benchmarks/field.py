"""Every system of the field on one machine: what it computes, moves and takes, beside what is
reported of it on other devices.

``field_systems.toml`` says how an image of each is made. A network that several systems have in
common is lowered once. What is done is kept beside the result, so that a run that was cut short
goes on.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from math import log10
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from edgefusion.benchmarks.ablation import figures
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.models.architecture_costs import network_cost
from edgefusion.models.architectures import PRESETS
from edgefusion.models.source import resolve_source
from edgefusion.runtime.pipeline_roles import role_of
from edgefusion.runtime.program_parts import prompt_runs
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.paper.programs import build_networks

TARGET = "exynos2400"
SCHEDULES = ("serial", "mlt", "pipelined")
_HERE = Path(__file__).parent
_DONE = _HERE / "results" / "field.partial.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A row: its preset, and how an image is made of it."""

    name: str
    preset: str
    steps: int
    guided: bool
    reported: str = ""
    source: str = ""
    without: Sequence[str] = ()

    @property
    def components(self) -> list[str]:
        """Those that are measured, in pipeline order."""
        return [name for name in PRESETS[self.preset].networks if name not in self.without]

    @property
    def prompts(self) -> int:
        """With and without the prompt, where it is guided."""
        return 1 + self.guided

    def runs(self, component: str) -> int:
        """Evaluations of a component for an image."""
        role = role_of(component)
        if role == "decoder":
            return 1
        return self.prompts * (self.steps if role == "denoiser" else 1)

    def image(self, networks: Mapping[str, Mapping[str, Any]], schedule: str) -> dict[str, float]:
        """Latency in ms and DRAM traffic in MB of an image."""
        total = {"ms": 0.0, "dram_megabytes": 0.0}
        for component, network in networks.items():
            row, runs = network[schedule], self.runs(component)
            once = prompt_runs(runs, self.prompts)
            total["ms"] += runs * row["latency_ms"] + once * row["once_ms"]
            total["dram_megabytes"] += (
                runs * row["dram_megabytes"] + once * row["once_dram_megabytes"]
            )
        return total


def systems() -> list[System]:
    """All rows, in the file's order."""
    with (_HERE / "field_systems.toml").open("rb") as file:
        return [System(**entry) for entry in tomllib.load(file)["system"]]


def key_of(preset: str, component: str) -> str:
    """The same for the same network, whatever it is called."""
    architecture = PRESETS[preset]
    identity = [component, architecture.family, repr(architecture.networks[component])]
    return sha256(json.dumps(identity).encode()).hexdigest()[:16]


def measured(preset: str, component: str) -> dict[str, Any]:
    """One network under all schedules. Run in a process of its own: exports of XL take gigabytes
    that are not given back."""
    architecture, machine = PRESETS[preset], load_target(TARGET).machine
    cost = network_cost(architecture, component)
    found: dict[str, Any] = {
        "parameters": cost.parameters,
        "gmacs": cost.operations.macs / 1e9,
    }
    source = resolve_source(preset, random_weights_seed=0)
    plain, transposed = build_networks(source, component, machine, _mute, (False, True))
    for name in SCHEDULES:
        network = transposed if name == "pipelined" else plain
        program = lower(network, machine, schedule_named(name)).program
        found[name] = figures(program, machine) | {"sram_bytes": program.sram_bytes}
    return found


def _mute(_: str) -> None:
    return


def networks() -> Iterator[tuple[str, str, str]]:
    """Key, preset and component of all that have to be measured."""
    seen = set()
    for system in systems():
        for component in system.components:
            key = key_of(system.preset, component)
            if key not in seen:
                seen.add(key)
                yield key, system.preset, component


def main() -> dict[str, Any]:
    """The table and its plot; half an hour of two cores, 12 GB."""
    done: dict[str, Any] = json.loads(_DONE.read_text()) if _DONE.exists() else {}
    for key, preset, component in networks():
        if key not in done:
            print(f"{preset}: {component}", flush=True)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                done[key] = alone.submit(measured, preset, component).result()
            _DONE.write_text(json.dumps(done))
    rows = []
    for system in systems():
        parts = {name: done[key_of(system.preset, name)] for name in system.components}
        rows.append(row_of(system, parts))
    _draw(rows, _HERE / "results" / "field.html")
    _DONE.unlink()
    return {"target": TARGET, "rows": rows}


def row_of(system: System, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the table has of a system, ``parts`` being its networks."""
    return {
        "system": system.name,
        "preset": system.preset,
        "steps": system.steps,
        "denoiser_runs": max(system.runs(name) for name in parts),
        "parameters": sum(part["parameters"] for part in parts.values()),
        "gmacs": sum(system.runs(name) * part["gmacs"] for name, part in parts.items()),
        "sram_bytes": max(part["pipelined"]["sram_bytes"] for part in parts.values()),
        **{name: system.image(parts, name) for name in SCHEDULES},
        "without": list(system.without),
        "reported": system.reported,
        "source": system.source,
        "components": parts,
    }


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    import plotly.graph_objects as go

    figure = go.Figure()
    for label, chosen in (
        ("one pass a step", [row for row in rows if row["denoiser_runs"] == row["steps"]]),
        ("two passes a step", [row for row in rows if row["denoiser_runs"] != row["steps"]]),
    ):
        figure.add_trace(
            go.Scatter(
                x=[row["parameters"] / 1e6 for row in chosen],
                y=[row["pipelined"]["ms"] for row in chosen],
                text=[f"{row['system']}, {row['steps']}" for row in chosen],
                mode="markers+text",
                textposition="top center",
                name=label,
                marker={"size": 9, "color": "black" if label[0] == "o" else "gray"},
            )
        )
    room = [log10(300), log10(6000)]  # for names beside the outermost points
    figure.update_xaxes(type="log", range=room, title="parameters of all networks, millions")
    figure.update_yaxes(type="log", title=f"ms an image, pipelined, {TARGET}")
    figure.update_layout(title="The field on one machine: name, steps", height=640)
    figure.write_html(path, include_plotlyjs="cdn")
