"""Latency of trials against what it is traded for: SRAM, DRAM traffic, SQNR; a panel each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plotly.subplots import make_subplots

from edgefusion.runtime.settings import short_name
from edgefusion.toolchain.exploring.findings import Findings, Found, costs
from edgefusion.toolchain.exploring.plots import COLOURS, LAYOUT
from edgefusion.toolchain.exploring.sweep import text_of

_PANELS = {
    "sram_bytes": ("SRAM, MiB", 2**20),
    "sram_used_bytes": ("SRAM used, MiB", 2**20),
    "dram_bytes": ("DRAM traffic of an image, MB", 10**6),
    "sqnr_db": ("SQNR, dB", 1),
}
"""Title and unit of each figure that latency is drawn against."""


def pareto_figure(findings: Findings) -> Any:
    """A panel for each figure that differs among trials, with the front of the two."""
    fitting = [trial for trial in findings.trials if trial.timed]
    names = [name for name in _PANELS if len({_figure(trial, name) for trial in fitting}) > 1]
    names = names or ["sram_bytes"]
    figure = make_subplots(cols=len(names), rows=1, shared_yaxes=True, horizontal_spacing=0.04)
    for column, name in enumerate(names, 1):
        title, factor = _PANELS[name]
        points = [trial for trial in fitting if _figure(trial, name) is not None]
        _panel(figure, findings, points, name, factor, column)
        figure.update_xaxes(title=title, col=column, row=1)
    figure.update_yaxes(title="latency of an image, ms", col=1, row=1)
    missing = len(findings.trials) - len(fitting)
    note = f"objectives: {', '.join(findings.objectives)}"
    note += f"; {missing} of {len(findings.trials)} do not fit" if missing else ""
    title = f"{findings.suite}: {len(findings.trials)} trials<br><sup>{note}</sup>"
    figure.update_layout(
        title={"text": title},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        **LAYOUT,
    )
    return figure


def _panel(
    figure: Any, findings: Findings, points: Sequence[Found], name: str, factor: int, column: int
) -> None:
    best = front_of(points, (name, "latency_ms"))
    figure.add_scatter(
        x=[_figure(trial, name) / factor for trial in best],
        y=[_figure(trial, "latency_ms") for trial in best],
        mode="lines",
        line={"color": COLOURS[1], "width": 1.5, "shape": "hv" if name != "sqnr_db" else "vh"},
        name="front of this panel",
        legendgroup="line",
        showlegend=column == 1,
        hoverinfo="skip",
        row=1,
        col=column,
    )
    for label, colour, size, on_front in (
        ("other trials", "#b9c2cc", 7, False),
        ("on the front of all objectives", COLOURS[0], 10, True),
    ):
        shown = [trial for trial in points if (trial.index in findings.front) is on_front]
        figure.add_scatter(
            x=[_figure(trial, name) / factor for trial in shown],
            y=[_figure(trial, "latency_ms") for trial in shown],
            mode="markers",
            marker={"color": colour, "size": size, "line": {"color": "white", "width": 1}},
            name=label,
            legendgroup=label,
            showlegend=column == 1,
            text=[_hover(trial) for trial in shown],
            hovertemplate="%{text}<extra></extra>",
            row=1,
            col=column,
        )


def front_of(points: Sequence[Found], names: Sequence[str]) -> list[Found]:
    """Those that no other one beats in two figures, in the order of the first."""
    found: list[Found] = []
    for trial in sorted(points, key=lambda trial: costs(trial, names)):
        if not found or costs(trial, names)[1] < costs(found[-1], names)[1]:
            found.append(trial)
    return found


def _figure(trial: Found, name: str) -> Any:
    return (trial.figures() or {}).get(name)


def _hover(trial: Found) -> str:
    figures = trial.figures() or {}
    lines = [f"{short_name(name)}: {text_of(name, value)}" for name, value in trial.values.items()]
    return "<br>".join(
        [
            f"<b>trial {trial.index}: {figures['latency_ms']:,.3f} ms</b>",
            *lines,
            f"bound: {figures['bound_ms']:,.3f} ms",
            f"DRAM: {figures['dram_bytes'] / 1e6:,.2f} MB",
            f"SRAM used: {figures['sram_used_bytes']:,} bytes",
        ]
    )
