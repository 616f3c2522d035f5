"""``edgefusion inspect``: what is in a bundle: manifest, graph, program, memory, tile choices."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.component_table import component_rows, components_table
from edgefusion.cli.host_tables import host_call_rows, host_op_rows, host_tables
from edgefusion.cli.memory_map import memory_table
from edgefusion.cli.options import BundleArgument
from edgefusion.cli.output import JsonOption, emit, progress, write_json
from edgefusion.cli.paths import WritesIn
from edgefusion.cli.table import Column, Table, whole
from edgefusion.cli.tiles import tile_table
from edgefusion.runtime.errors import UsageError

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

SCHEMA_VERSION = 1
app = typer.Typer(add_completion=False)

_MEMBERS = (
    Column("member", "member"),
    Column("bytes", "bytes", whole),
    Column("sha256", "sha256", detail=True),
)
_GRAPH = (
    Column("component", "component"),
    Column("op", "op"),
    Column("count", "count", whole),
)


@app.command()
def inspect(
    bundle: BundleArgument,
    component: Annotated[
        str | None, typer.Option(metavar="NAME", help="The component to look into.")
    ] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Print the graph as text.")] = False,
    program: Annotated[bool, typer.Option("--program", help="Print the program as text.")] = False,
    rows: Annotated[
        str, typer.Option("--range", metavar="A:B", help="Instructions A to B of the program.")
    ] = "",
    memory: Annotated[bool, typer.Option("--memory", help="Show the memory map.")] = False,
    tiles: Annotated[
        str | None,
        typer.Option(metavar="OP", help="Show the tilings considered for an op, and their costs."),
    ] = None,
    extract: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write all members there (for Netron)."),
        WritesIn(),
    ] = None,
    json_to: JsonOption = None,
) -> None:
    """Show what a bundle holds.

    Examples: `edgefusion inspect tiny.npub`; `edgefusion inspect tiny.npub --component unet
    --program --range 100:150`; `edgefusion inspect tiny.npub --component unet --memory`;
    `edgefusion inspect tiny.npub --component unet --tiles node_conv2d_3`.
    """
    from edgefusion.api import open_bundle

    with progress() as say:
        say(f"checking {bundle}")
        opened = open_bundle(bundle)
    if extract:
        opened.extract(extract)
    wanted = sum((graph, program or bool(rows), memory, tiles is not None))
    if wanted > 1:
        raise UsageError("choose one of --graph, --program, --memory and --tiles at a time.")
    if not wanted:
        document = summary_json(opened)
        emit(_summary(opened, document), lambda: document, json_to=json_to, lines=_head(opened))
        return
    name = _chosen(opened, component)
    if graph:
        _show_graph(opened, name, json_to)
    elif memory:
        table, record = memory_table(opened.program(name))
        emit([table], lambda: record, json_to=json_to)
    elif tiles is not None:
        table, record = tile_table(opened, name, tiles)
        emit([table], lambda: record, json_to=json_to)
    else:
        _show_program(opened, name, rows)


def summary_json(bundle: Bundle) -> dict[str, Any]:
    """The manifest, and the op counts of each graph."""
    counts = {}
    for name in bundle.components:
        nodes = bundle.graph_model(name).graph.node
        counts[name] = dict(Counter(node.op_type for node in nodes).most_common())
    latency = bundle.latency_json()
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle": str(bundle.path),
        "manifest": bundle.manifest.to_json(),
        "latency": {"pipeline": latency["pipeline"], "components": latency["components"]},
        "graphs": counts,
        "host_ops": host_op_rows(bundle.manifest),
        "host_calls": host_call_rows(bundle.manifest),
    }


def _summary(bundle: Bundle, document: dict[str, Any]) -> list[Table]:
    latencies = {name: e["latency_ms"] for name, e in document["latency"]["components"].items()}
    ops = [
        {"component": name, "op": op, "count": count}
        for name, counts in document["graphs"].items()
        for op, count in counts.items()
    ]
    members = [{"member": k, **v} for k, v in document["manifest"]["members"].items()]
    return [
        components_table(component_rows(bundle.manifest, latencies)),
        *host_tables(document),
        Table("Ops of the graphs", _GRAPH, ops),
        Table("Members", _MEMBERS, members),
    ]


def _head(bundle: Bundle) -> list[str]:
    manifest = bundle.manifest
    source, target = manifest.source, manifest.target
    made_by = f"format {manifest.format_version}, made by edgefusion {manifest.tool_version}"
    machine = f"{target.name} ({target.digest[:16]}), cost model {manifest.cost_model_version}"
    return [
        f"bundle      {bundle.path}, {made_by}",
        f"source      {source.kind} {source.name} ({source.digest[:16]})",
        f"target      {machine}",
        f"schedule    {manifest.schedule}, {manifest.steps} steps",
    ]


def _chosen(bundle: Bundle, component: str | None) -> str:
    if component is not None:
        return bundle.manifest.component(component).name
    if len(bundle.components) == 1:
        return bundle.components[0]
    raise UsageError(
        f"which component? Choose one of {', '.join(bundle.components)} with --component."
    )


def _show_graph(bundle: Bundle, component: str, json_to: str | None) -> None:
    from edgefusion.compiler.graph.text import graph_text

    graph = bundle.graph(component)
    if json_to:
        nodes = [
            {
                "name": node.name,
                "op": node.op,
                "origin": list(node.origin),
                "scope": node.scope,
                "inputs": [tensor.name for tensor in node.inputs],
                "outputs": [
                    {"name": t.name, "shape": list(t.shape), "dtype": t.dtype.name}
                    for t in node.outputs
                ],
            }
            for node in graph.nodes
        ]
        write_json(json_to, {"schema_version": SCHEMA_VERSION, "nodes": nodes})
    else:
        sys.stdout.write(graph_text(graph))


def _show_program(bundle: Bundle, component: str, rows: str) -> None:
    from edgefusion.runtime.program_text import write_text

    first, last = _range(rows)
    write_text(bundle.program(component), sys.stdout, first, last)


def _range(text: str) -> tuple[int, int | None]:
    """``A:B``, ``A:`` or ``:B``; both ends are included."""
    first, colon, last = text.partition(":")
    try:
        begin, end = int(first or 0), int(last) if last else None
    except ValueError:
        begin, end = -1, None
    if text and (not colon or begin < 0 or (end is not None and end < begin)):
        raise UsageError(f"--range {text}: expected A:B, as in --range 100:150.")
    return begin, end
