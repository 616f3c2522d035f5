"""How latency grows with the size of the latent, from 32 x 32 to 128 x 128, at full size otherwise.

Attention's work grows with the fourth power of the side, all else with the square; maps outgrow
SRAM on the way. A plot stands beside the figures.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgefusion.benchmarks.ablation import PRESET, lowered
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.models.architectures import PRESETS
from edgefusion.models.source import resolve_source
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.paper.programs import build_network

SIDES = (32, 48, 64, 96, 128)
GROWING: tuple[str, ...] = ("unet", "vae_decoder")
"""The text encoder does not look at the latent."""


def rows_of(side: int) -> list[dict[str, Any]]:
    """Both components, under both schedules."""
    machine = load_target("exynos2400").machine
    tiny = PRESETS[PRESET]
    architecture = replace(
        tiny,
        networks={
            name: replace(network, latent_size=side) if name in GROWING else network  # type: ignore[type-var]
            for name, network in tiny.networks.items()
        },
    )
    source = replace(resolve_source(PRESET, random_weights_seed=0), architecture=architecture)
    rows = []
    for component in GROWING:
        network = build_network(source, component, machine, print, transposing=True)
        for schedule in ("mlt", "pipelined"):
            row = lowered(network, machine, schedule_named(schedule))
            rows.append({"side": side, "component": component, "schedule": schedule, **row})
            print(side, component, schedule, row.get("latency_ms"), flush=True)
    return rows


def main() -> dict[str, Any]:
    """Latency, bounds, bytes and multiply-accumulates by size; some 8 minutes of two cores."""
    with ProcessPoolExecutor() as pool:
        rows = [row for found in pool.map(rows_of, reversed(SIDES)) for row in found]
    rows.sort(key=lambda row: (row["component"], row["schedule"], row["side"]))
    _draw(rows, Path(__file__).parent / "results" / "latent_sizes.html")
    return {"rows": rows}


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=len(GROWING), subplot_titles=GROWING)
    for column, component in enumerate(GROWING, start=1):
        for schedule, key in (
            ("mlt", "latency_ms"),
            ("pipelined", "latency_ms"),
            ("pipelined", "fused_bound_ms"),
        ):
            chosen = [r for r in rows if (r["component"], r["schedule"]) == (component, schedule)]
            bound = key != "latency_ms"
            figure.add_trace(
                go.Scatter(
                    x=[r["side"] for r in chosen],
                    y=[r.get(key) for r in chosen],
                    name="bound over any groups" if bound else schedule,
                    line={
                        "color": "gray" if schedule == "mlt" else "black",
                        "dash": "dot" if bound else "solid",
                    },
                    showlegend=column == 1,
                ),
                row=1,
                col=column,
            )
    figure.update_xaxes(title="latent, pixels on a side", tickvals=SIDES, type="log")
    figure.update_yaxes(title="ms, one run", type="log")
    figure.update_layout(title=f"{PRESET}, growth with the latent", height=520)
    figure.write_html(path, include_plotlyjs="cdn")
