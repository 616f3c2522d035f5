"""The charts of a report's page, as Plotly figures made from its document.

Colours are those of engines and causes everywhere; what depends on light or dark (text, grid) is
left to the page. The timeline alone is drawn by the page itself, as it shows what its width can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

ENGINES = {"dma": "#3d85d8", "tensor": "#1d9f76", "vector": "#e2992b", "host": "#c06bb5"}
CAUSES = {
    "weight": "#7d6fe0",
    "input": "#45b0d8",
    "output": "#3fb8a5",
    "activation": "#8598b0",
    "spill": "#d6504f",
    "reread": "#ee8a4a",
    "table": "#b5a155",
}
WAITS = {
    "dma": "#a9c9ee",
    "tensor": "#a5d8c6",
    "vector": "#f1d3a0",
    "host": "#e3c1de",
    "semaphore": "#b6bac2",
    "bus": "#8f97a5",
}
IDLE = "rgba(140,150,165,.22)"
PRECISIONS = ("solid", "dash", "dot", "dashdot")
_BAR_PX = 30
_AROUND_PX = 108
_LONGEST = 64
_SIZES = (6.0, 26.0)


def charts(document: Mapping[str, Any], top: int) -> dict[str, Any]:
    """Figures by name, as JSON that Plotly draws."""
    return {name: each.to_plotly_json() for name, each in figures(document, top).items()}


def figures(document: Mapping[str, Any], top: int = 15) -> dict[str, go.Figure]:
    """Figures by name of a report's document; of movers of bytes, the ``top`` ones."""
    made = {
        "components": _components(document["latency"]["components"]),
        "limits": _limits(document["latency"]),
        "engines": _engines(document["engines"]),
        "causes": _causes(document["traffic_rows"]["causes"], document["traffic"]["total_bytes"]),
        "traffic_ops": _movers(document["traffic_rows"]["ops"], "path", top),
        "traffic_tensors": _movers(document["traffic_rows"]["tensors"], "name", top),
        "roofline": _roofline(document["roofline"]),
        "bounds": _bounds(document),
    }
    if document["what_ifs"]:
        made["what_ifs"] = _what_ifs(document)
    return made


def _figure(height: int, **layout: Any) -> go.Figure:
    """An empty one without a theme, whose margins grow with its labels."""
    figure = go.Figure()
    figure.update_layout(
        template=go.layout.Template(data={"scatter": []}),
        height=height,
        margin={"l": 10, "r": 16, "t": 36, "b": 44},
        barmode="stack",
        bargap=0.32,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"}
        | {"traceorder": "normal", "itemclick": "toggle"},
        hoverlabel={"align": "left"},
        **layout,
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def _bars(
    names: Sequence[str], parts: Mapping[str, tuple[str, Sequence[float]]], unit: str
) -> go.Figure:
    """Stacked bars from left to right, the first name at the top; a part a colour."""
    figure = _figure(_AROUND_PX + _BAR_PX * len(names))
    for part, (colour, values) in parts.items():
        if any(values):
            figure.add_bar(
                orientation="h",
                name=part,
                y=list(names),
                x=list(values),
                marker={"color": colour},
                hovertemplate=f"%{{y}}<br>{part}: %{{x:,.3f}} {unit}<extra></extra>",
            )
    figure.update_yaxes(autorange="reversed", type="category", ticklabelstandoff=6)
    figure.update_xaxes(title={"text": unit}, rangemode="tozero")
    return figure


def _components(components: Mapping[str, Any]) -> go.Figure:
    names, bounds, above = [], [], []
    for name, entry in components.items():
        runs = entry["evaluations"]
        names.append(f"{name} × {runs}" if runs > 1 else name)
        bounds.append(runs * entry["bound_ms"])
        above.append(runs * max(entry["latency_ms"] - entry["bound_ms"], 0.0))
    parts = {"bound": ("#5b7fb5", bounds), "above the bound": ("#e3a35c", above)}
    return _bars([_text(name) for name in names], parts, "ms an image")


def _limits(latency: Mapping[str, Any]) -> go.Figure:
    """An image's time by component, in the colours of the engines that limit its ops."""
    names = list(latency["components"])
    sums = {(name, kind): 0.0 for name in names for kind in ENGINES}
    for op in latency["ops"]:
        sums[op["component"], op["limited_by"]] += op["image_latency_ms"]
    parts = {
        f"limited by {kind}": (colour, [sums[name, kind] for name in names])
        for kind, colour in ENGINES.items()
    }
    return _bars([_text(name) for name in names], parts, "ms an image")


def _engines(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Where each engine's time of an image goes: busy, in its colour, waiting by reason, idle."""
    used = [row for row in rows if row["busy_ms"]]
    names = [_text(f"{row['component']} {row['engine']}") for row in used]
    parts = {
        f"{kind} busy": (
            colour,
            [row["evaluations"] * row["busy_ms"] if row["kind"] == kind else 0 for row in used],
        )
        for kind, colour in ENGINES.items()
    }
    parts |= {
        f"waits for {reason}": (
            colour,
            [row["evaluations"] * row["stalls_ms"][reason] for row in used],
        )
        for reason, colour in WAITS.items()
    }
    parts["idle"] = (IDLE, [row["evaluations"] * row["idle_ms"] for row in used])
    return _bars(names, parts, "ms an image")


def _causes(rows: Sequence[Mapping[str, Any]], total: int) -> go.Figure:
    names = list(dict.fromkeys(row["component"] for row in rows))
    found = {(row["component"], row["cause"]): row["image_bytes"] / 1e6 for row in rows}
    parts = {
        cause: (colour, [found.get((name, cause), 0.0) for name in names])
        for cause, colour in CAUSES.items()
    }
    figure = _bars([_text(name) for name in names], parts, "MB an image")
    for trace in figure.data:
        trace.customdata = [100e6 * x / total if total else 0.0 for x in trace.x]
        trace.hovertemplate = (
            "%{y}<br>" + trace.name + ": %{x:,.2f} MB, %{customdata:.1f} %<extra></extra>"
        )
    return figure


def _movers(rows: Sequence[Mapping[str, Any]], label: str, top: int) -> go.Figure:
    """The first rows by cause."""
    shown = rows[:top]
    names = [_unique(row["component"], row[label], place) for place, row in enumerate(shown)]
    parts = {
        cause: (colour, [row["image_bytes_by_cause"].get(cause, 0) / 1e6 for row in shown])
        for cause, colour in CAUSES.items()
    }
    return _bars(names, parts, "MB an image")


def _unique(component: str, name: str, place: int) -> str:
    """A label that no other row has, though two ops may be of one module: its rank comes first."""
    path = name if name.startswith(f"{component}.") else f"{component}.{name}"
    return _text(f"{place + 1}. {_short(path)}")


def _short(path: str) -> str:
    """The end of a long path, which tells more than its middle."""
    return path if len(path) <= _LONGEST else f"…{path[1 - _LONGEST :]}"


def _text(text: str) -> str:
    """For Plotly, which takes some HTML in texts: as it stands."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _roofline(roofline: Mapping[str, Any]) -> go.Figure:
    figure = _figure(460, hovermode="closest")
    points = roofline["points"]
    used = {point["precision"] for point in points}
    roofs = [roof for roof in roofline["roofs"] if roof["precision"] in used] or roofline["roofs"]
    at = [point["macs_per_byte"] for point in points] or [1.0]
    highest = max(roof["macs_per_s"] for roof in roofs)
    bandwidth = roofline["dram_bytes_per_s"]
    left, right = min(*at, 0.1) / 2, max(*at, 2 * highest / bandwidth) * 2
    figure.add_scatter(
        name="DRAM bandwidth",
        x=[left, highest / bandwidth],
        y=[left * bandwidth / 1e9, highest / 1e9],
        mode="lines",
        line={"color": ENGINES["dma"], "width": 2},
        hovertemplate=f"DRAM: {bandwidth / 1e9:,.2f} GB/s<extra></extra>",
    )
    for roof, dash in zip(roofs, PRECISIONS, strict=False):
        figure.add_scatter(
            name=f"{roof['precision']} peak",
            x=[roof["macs_per_s"] / bandwidth, right],
            y=[roof["macs_per_s"] / 1e9] * 2,
            mode="lines",
            line={"color": ENGINES["tensor"], "width": 2, "dash": dash},
            hovertemplate=(
                f"{roof['precision']}: {roof['macs_per_s'] / 1e9:,.0f} GMAC/s<extra></extra>"
            ),
        )
    for kind, colour in ENGINES.items():
        some = [point for point in points if point["limited_by"] == kind]
        if some:
            figure.add_scatter(
                name=f"limited by {kind}",
                x=[p["macs_per_byte"] for p in some],
                y=[p["macs_per_s"] / 1e9 for p in some],
                mode="markers",
                marker=_marks(colour, some),
                customdata=[
                    [
                        _text(p["path"]),
                        p["precision"],
                        "" if p["ratio"] is None else f"{p['ratio']:.2f} × its bound",
                        p["share_percent"],
                    ]
                    for p in some
                ],
                hovertemplate=(
                    "%{customdata[0]}<br>%{x:,.1f} MACs a byte, %{y:,.1f} GMAC/s "
                    "(%{customdata[1]})<br>%{customdata[2]}; %{customdata[3]:.2f} % of the image"
                    "<extra></extra>"
                ),
            )
    figure.update_xaxes(type="log", title={"text": "MACs for a DRAM byte"}, dtick=1)
    figure.update_yaxes(type="log", title={"text": "GMAC/s"}, dtick=1)
    return figure


def _marks(colour: str, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Marks whose area grows with the op's share, up to a limit."""
    least, most = _SIZES
    sizes = [min(least + 9 * point["share_percent"] ** 0.5, most) for point in points]
    return {"color": colour, "opacity": 0.7, "size": sizes, "line": {"width": 0}}


def _bounds(document: Mapping[str, Any]) -> go.Figure:
    """Every op with a bound: what it takes against the least that it can."""
    figure = _figure(460, hovermode="closest")
    rows = [row for row in document["latency"]["ops"] if row["bound_ms"]]
    ends = [row["bound_ms"] for row in rows] or [1.0]
    ends += [row["bound_ms"] * row["ratio"] for row in rows]
    low, high = min(ends) / 1.5, max(ends) * 1.5
    for times, dash in ((1, "solid"), (2, "dot")):
        figure.add_scatter(
            name="its bound" if times == 1 else f"{times} × its bound",
            x=[low, high / times],
            y=[low * times, high],
            mode="lines",
            line={"color": "#8a93a3", "width": 1.5, "dash": dash},
            hoverinfo="skip",
        )
    for kind, colour in ENGINES.items():
        some = [row for row in rows if row["limited_by"] == kind]
        if some:
            figure.add_scatter(
                name=f"limited by {kind}",
                x=[row["bound_ms"] for row in some],
                y=[row["bound_ms"] * row["ratio"] for row in some],
                mode="markers",
                marker=_marks(colour, some),
                customdata=[
                    [_text(f"{r['component']}.{r['module']}"), r["kind"], r["ratio"]] for r in some
                ],
                hovertemplate=(
                    "%{customdata[0]} (%{customdata[1]})<br>%{y:,.4f} ms, %{customdata[2]:.2f} × "
                    "its bound of %{x:,.4f} ms<extra></extra>"
                ),
            )
    figure.update_xaxes(type="log", title={"text": "bound, ms an evaluation"}, dtick=1)
    figure.update_yaxes(type="log", title={"text": "reached, ms an evaluation"}, dtick=1)
    return figure


def _what_ifs(document: Mapping[str, Any]) -> go.Figure:
    """An image's time as it is and with each change, by component."""
    components = document["latency"]["components"]
    now = {name: c["evaluations"] * c["latency_ms"] for name, c in components.items()}
    names = ["as it is", *(_text(row["change"]) for row in document["what_ifs"])]
    colours = ("#5b7fb5", "#7fb3a4", "#d9a566", "#b08bbf")
    parts = {
        name: (
            colours[place % len(colours)],
            [now[name], *(row["components_ms"].get(name, 0.0) for row in document["what_ifs"])],
        )
        for place, name in enumerate(components)
    }
    return _bars(names, parts, "ms an image")
