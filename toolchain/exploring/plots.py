"""Plots of sweeps and explorations, as one HTML file each that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from edgefusion.runtime.settings import short_name
from edgefusion.toolchain.exploring.sweep import Row, Sweep, text_of

_HEATMAP_FROM = 3
"""So many values of both of two settings make a map; fewer are better read as lines."""
_BOUNDS_UP_TO = 4
"""Lines; with more, their bounds would be a thicket."""
_MOST_TICKS = 12
_LOG_FROM = 8
"""So many times the smallest value, the largest one is far away."""
COLOURS = (
    "#1f5a99", "#c8561f", "#2f7d4f", "#8a4fa3", "#a8841a", "#b03a5b", "#3a8fa3", "#6b6b6b",
)  # fmt: skip
LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 14},
    "margin": {"l": 80, "r": 40, "t": 90, "b": 70},
    "hoverlabel": {"align": "left"},
}


def html(figure: Any, title: str) -> str:
    """A figure as a page of its own, plotly's script in it."""
    body = figure.to_html(
        full_html=False, include_plotlyjs=True, default_height="92vh", config={"displaylogo": False}
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>"
        '<link rel="icon" href="data:,"></head>\n'
        f'<body style="margin:0">{body}</body>\n</html>\n'
    )


def sweep_figure(sweep: Sweep, title: str) -> Any:
    """Latency over what was swept: a map of two settings, else lines over the one of most values,
    or bars where nothing that is varied is a number."""
    values = {name: _distinct(sweep, name) for name in sweep.varied}
    numeric = [name for name, each in values.items() if not isinstance(each[0], str)]
    figure = go.Figure()
    if len(numeric) == len(values) == 2 and all(
        len(values[name]) >= _HEATMAP_FROM for name in numeric
    ):
        _map(figure, sweep, numeric[0], numeric[1])
    elif numeric:
        _lines(figure, sweep, max(numeric, key=lambda name: len(values[name])))
    else:
        _bars(figure, sweep)
    missing = sum(row.timed is None for row in sweep.rows)
    note = f"own: {sweep.own.latency_ms:,.3f} ms"
    note += f"; {missing} of {len(sweep.rows)} points do not fit" if missing else ""
    figure.update_layout(title={"text": f"{title}<br><sup>{note}</sup>"}, **LAYOUT)
    return figure


def _lines(figure: Any, sweep: Sweep, over: str) -> None:
    others = [name for name in sweep.varied if name != over]
    series: dict[str, list[Row]] = {}
    for row in sweep.rows:
        point = row.point.values()
        label = ", ".join(f"{short_name(name)} {text_of(name, point[name])}" for name in others)
        series.setdefault(label, []).append(row)
    for number, (label, rows) in enumerate(series.items()):
        rows.sort(key=lambda row: float(row.point.values()[over]))
        colour = COLOURS[number % len(COLOURS)]
        x = [float(row.point.values()[over]) for row in rows]
        figure.add_scatter(
            x=x,
            y=[row.timed.latency_ms if row.timed else None for row in rows],
            name=label or "latency",
            legendgroup=label,
            mode="lines+markers",
            line={"color": colour},
            text=[_hover(sweep, row) for row in rows],
            hovertemplate="%{text}<extra></extra>",
        )
        if len(series) <= _BOUNDS_UP_TO:
            figure.add_scatter(
                x=x,
                y=[row.timed.bound_ms if row.timed else None for row in rows],
                name=f"{label} bound".strip(),
                legendgroup=label,
                mode="lines",
                line={"color": colour, "dash": "dot", "width": 1.5},
                hovertemplate="bound %{y:,.3f} ms<extra></extra>",
            )
    figure.add_hline(y=sweep.own.latency_ms, line={"color": "#999999", "width": 1, "dash": "dash"})
    figure.update_xaxes(title=short_name(over), **_axis(over, _distinct(sweep, over)))
    figure.update_yaxes(title="latency of an image, ms", rangemode="tozero")


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """An axis with ticks where values are, as people write them; logarithmic over decades."""
    ticks = list(values)[:: -(-len(values) // _MOST_TICKS)]
    return {
        "type": "log" if 0 < _LOG_FROM * values[0] <= values[-1] else "linear",
        "tickvals": ticks,
        "ticktext": [text_of(name, value) for value in ticks],
    }


def _map(figure: Any, sweep: Sweep, down: str, across: str) -> None:
    rows, columns = _distinct(sweep, down), _distinct(sweep, across)
    at = {(row.point.values()[down], row.point.values()[across]): row for row in sweep.rows}
    cells = [[at[one, other] for other in columns] for one in rows]
    figure.add_heatmap(
        x=[text_of(across, value) for value in columns],
        y=[text_of(down, value) for value in rows],
        z=[[row.timed.latency_ms if row.timed else None for row in line] for line in cells],
        text=[[_cell(row) for row in line] for line in cells],
        customdata=[[_hover(sweep, row) for row in line] for line in cells],
        texttemplate="%{text}",
        hovertemplate="%{customdata}<extra></extra>",
        hoverongaps=True,
        colorscale="Viridis_r",
        colorbar={"title": "ms"},
    )
    figure.update_xaxes(title=short_name(across), type="category")
    figure.update_yaxes(title=short_name(down), type="category")


def _bars(figure: Any, sweep: Sweep) -> None:
    labels = [
        ", ".join(text_of(name, row.point.values()[name]) for name in sweep.varied) or "as set"
        for row in sweep.rows
    ]
    figure.add_bar(
        x=labels,
        y=[row.timed.latency_ms if row.timed else None for row in sweep.rows],
        marker={"color": COLOURS[0]},
        text=[_cell(row) for row in sweep.rows],
        customdata=[_hover(sweep, row) for row in sweep.rows],
        hovertemplate="%{customdata}<extra></extra>",
    )
    figure.update_yaxes(title="latency of an image, ms", rangemode="tozero")


def _distinct(sweep: Sweep, name: str) -> list[Any]:
    """The values of one thing, numbers in order."""
    found = list(dict.fromkeys(row.point.values()[name] for row in sweep.rows))
    return found if isinstance(found[0], str) else sorted(found)


def _cell(row: Row) -> str:
    return f"{row.timed.latency_ms:,.2f}" if row.timed else "does not fit"


def _hover(sweep: Sweep, row: Row) -> str:
    values: Mapping[str, Any] = row.point.values()
    lines: Sequence[str] = [f"{short_name(k)}: {text_of(k, values[k])}" for k in sweep.varied]
    if row.timed is None:
        return "<br>".join([*lines, "does not fit"])
    change = sweep.change_percent(row)
    return "<br>".join(
        [
            f"<b>{row.timed.latency_ms:,.3f} ms</b> ({change:+.1f} % of the bundle's own)",
            *lines,
            f"bound: {row.timed.bound_ms:,.3f} ms",
            f"DRAM: {row.timed.dram_bytes / 1e6:,.2f} MB",
            *(f"{name}: {ms:,.3f} ms" for name, ms in row.timed.components_ms.items()),
            "lowered again" if row.lowered_again else "program as it is",
        ]
    )
