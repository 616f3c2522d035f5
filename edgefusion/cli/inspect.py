"""``edgefusion inspect``: what is in a bundle: manifest, graph, program, memory, groups, tiles."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.component_table import component_rows, components_table
from edgefusion.cli.groups import all_groups, group_tables, groups_document
from edgefusion.cli.host_tables import host_call_rows, host_op_rows, host_tables
from edgefusion.cli.memory_map import memory_table
from edgefusion.cli.options import BundleArgument
from edgefusion.cli.output import CsvOption, JsonOption, emit, progress
from edgefusion.cli.paths import WritesIn
from edgefusion.cli.table import Column, Table, plain
from edgefusion.cli.tiles import all_tilings, tile_document, tile_tables
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.pipeline_roles import denoiser_of, network_of
from edgefusion.toolchain.reporting.number_forms import whole

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

SCHEMA_VERSION = 1
app = typer.Typer(add_completion=False)

_MEMBERS = (
    Column("member", "member"),
    Column("bytes", "bytes", whole),
    Column("sha256", "sha256", detail=True),
)
_NODES = (
    Column("name", "node"),
    Column("op", "op"),
    Column("scope", "module", path=True),
    Column("origin", "origin", detail=True),
    Column("inputs", "inputs", detail=True),
    Column("outputs", "outputs", lambda outputs: plain([each["name"] for each in outputs])),
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
        str | None,
        typer.Option("--range", metavar="A:B", help="Instructions A to B of the program."),
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Show the memory map.")] = False,
    groups: Annotated[
        bool,
        typer.Option(
            "--groups",
            help="Show which ops run as one group, what stays in SRAM and until when, what that "
            "saves, and why each group ends where it does.",
        ),
    ] = False,
    tiles: Annotated[
        str | None,
        typer.Option(
            metavar="OP",
            help="Show the tilings considered for an op, and their costs: a name, a module path, "
            "or a pattern such as `'*attn1*'`.",
        ),
    ] = None,
    extract: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write all members there (for Netron)."),
        WritesIn(),
    ] = None,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """Show what a bundle holds.

    Examples: `edgefusion inspect tiny.npub`; `edgefusion inspect tiny.npub --component unet
    --program --range 100:150`; `edgefusion inspect tiny.npub --component unet --memory --csv -`;
    `edgefusion inspect tiny.npub --component unet --groups`;
    `edgefusion inspect tiny.npub --tiles unet.node_conv2d_3`; `edgefusion inspect tiny.npub
    --tiles 'down_blocks.0.*attn1'`.

    `--csv` has the components, or the rows that `--graph`, `--memory`, `--groups` and
    `--tiles` choose.
    """
    from edgefusion.api import open_bundle

    wanted = sum((graph, program or rows is not None, memory, groups, tiles is not None))
    if wanted > 1:
        raise UsageError(
            "choose one of --graph, --program, --memory, --groups and --tiles at a time."
        )
    if (json_to or csv_to) and (program or rows is not None):
        raise UsageError("--program is written as text only; leave out --json and --csv.")
    first, last = _range(rows)
    with progress() as say:
        say(f"checking {bundle}")
        opened = open_bundle(bundle)
    shown = opened.components if component is None else (opened.manifest.component(component).name,)
    if extract:
        opened.extract(extract)
    if not wanted:
        document = summary_json(opened, shown)
        tables = _summary(opened, document, shown)
        lines = _head(opened, document["scheduler"])
        emit(tables, lambda: document, json_to=json_to, csv_to=csv_to, lines=lines)
        return
    if tiles is not None:
        with progress() as say:
            found = tile_document(opened, tiles, shown, say)
        emit(
            [all_tilings(found)],
            lambda: found,
            json_to=json_to,
            csv_to=csv_to,
            shown=tile_tables(found),
        )
        return
    if groups:
        found = groups_document(opened, shown)
        emit(
            [all_groups(found)],
            lambda: found,
            json_to=json_to,
            csv_to=csv_to,
            shown=group_tables(found),
        )
        return
    name = _chosen(opened, component)
    if graph:
        _show_graph(opened, name, json_to, csv_to)
    elif memory:
        table, record = memory_table(opened.program(name))
        emit([table], lambda: record, json_to=json_to, csv_to=csv_to)
    else:
        _show_program(opened, name, first, last)


def summary_json(bundle: Bundle, shown: Sequence[str] | None = None) -> dict[str, Any]:
    """The manifest, and what is said of the ``shown`` components (all when left out): latency, ops
    of the graph and of the host."""
    names = bundle.components if shown is None else shown
    counts = {}
    for name in names:
        nodes = bundle.graph_model(name).graph.node
        counts[name] = dict(Counter(node.op_type for node in nodes).most_common())
    latency = bundle.latency_json()
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle": str(bundle.path),
        "manifest": bundle.manifest.to_json(),
        "scheduler": scheduler_json(bundle),
        "latency": {
            "pipeline": latency["pipeline"],
            "components": {
                name: entry
                for name, entry in latency["components"].items()
                if network_of(name) in names
            },
        },
        "graphs": counts,
        "host_ops": [r for r in host_op_rows(bundle.manifest) if r["component"] in names],
        "host_calls": [r for r in host_call_rows(bundle.manifest) if r["component"] in names],
    }


def scheduler_json(bundle: Bundle) -> dict[str, str] | None:
    """What denoises (``runs``), the scheduler that the source brought (``source``, empty for none),
    and what the denoiser predicts; None for a bundle without a denoiser."""
    from edgefusion.toolchain.profiling.pipeline import scheduler_of

    if denoiser_of(bundle.components) is None:
        return None
    found = scheduler_of(bundle)
    return {
        "runs": found.name,
        "source": str(found.config.get("_class_name", "")),
        "prediction_type": found.predicts,
    }


def _summary(bundle: Bundle, document: dict[str, Any], shown: Sequence[str]) -> list[Table]:
    latency = bundle.latency_json()["components"]
    timed = {name: entry for name, entry in latency.items() if network_of(name) in shown}
    rows = component_rows(bundle.manifest, timed)
    ops = [
        {"component": name, "op": op, "count": count}
        for name, counts in document["graphs"].items()
        for op, count in counts.items()
    ]
    others = set(bundle.components) - set(shown)
    members = [
        {"member": name, **info}
        for name, info in document["manifest"]["members"].items()
        if name.partition("/")[0] not in others
    ]
    return [
        components_table(rows),
        *host_tables(document),
        Table("Ops of the graphs", _GRAPH, ops),
        Table("Members", _MEMBERS, members),
    ]


def _head(bundle: Bundle, scheduler: dict[str, str] | None) -> list[str]:
    from edgefusion.toolchain.profiling.pipeline import family_of

    manifest = bundle.manifest
    source, target = manifest.source, manifest.target
    made_by = f"format {manifest.format_version}, made by edgefusion {manifest.tool_version}"
    title = family_of(bundle).denoiser.kind.title
    machine = f"{target.name} ({target.digest[:16]}), cost model {manifest.cost_model_version}"
    lines = [
        f"bundle      {bundle.path}, {made_by}",
        f"source      {source.kind} {source.name} ({source.digest[:16]})",
        f"target      {machine}",
        f"schedule    {manifest.schedule}, {manifest.steps} steps",
    ]
    if guidance := manifest.deployment.guidance:
        each = (
            "runs with the prompt and without" if guidance.passes == 2 else "takes it as an input"
        )
        lines.append(f"guidance    {guidance.scale:g}; the {title} {each}")
    if (strength := manifest.deployment.strength) is not None:
        lines.append(f"strength    {strength:g} of the noise schedule is run from a picture")
    if (scale := manifest.deployment.control_scale) is not None:
        lines.append(f"control     {scale:g}, how much the picture counts that is followed")
    if scheduler is not None:
        replaced = scheduler["source"] not in ("", scheduler["runs"])
        of_source = f", in place of the source's {scheduler['source']}" if replaced else ""
        predicts = scheduler["prediction_type"]
        lines.append(f"scheduler   {scheduler['runs']}{of_source}; the {title} predicts {predicts}")
    return lines


def _chosen(bundle: Bundle, component: str | None) -> str:
    if component is not None:
        return bundle.manifest.component(component).name
    if len(bundle.components) == 1:
        return bundle.components[0]
    raise UsageError(
        f"which component? Choose one of {', '.join(bundle.components)} with --component."
    )


def _show_graph(bundle: Bundle, component: str, json_to: str | None, csv_to: str | None) -> None:
    """As text, where no file of it is asked for."""
    from edgefusion.compiler.graph.text import graph_text

    graph = bundle.graph(component)
    if not json_to and not csv_to:
        sys.stdout.write(graph_text(graph))
        return
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
    emit(
        [Table(f"Nodes of {component}", _NODES, nodes)],
        lambda: {"schema_version": SCHEMA_VERSION, "nodes": nodes},
        json_to=json_to,
        csv_to=csv_to,
        shown=[],
    )


def _show_program(bundle: Bundle, component: str, first: int, last: int | None) -> None:
    from edgefusion.runtime.program_text import write_text

    program = bundle.program(component)
    if first >= len(program):
        raise UsageError(
            f"--range begins at {first}; expected an instruction of {component}, which are 0 to "
            f"{len(program) - 1}."
        )
    write_text(program, sys.stdout, first, last)


def _range(text: str | None) -> tuple[int, int | None]:
    """``A:B``, ``A:`` or ``:B``; both ends are included. None is all."""
    if text is None:
        return 0, None
    found = re.fullmatch(r"(\d{0,18}):(\d{0,18})", text, re.ASCII)
    begin, end = (int(found[1] or 0), int(found[2]) if found[2] else None) if found else (1, 0)
    if end is not None and end < begin:
        raise UsageError(f"--range {text}: expected A:B, as in --range 100:150.")
    return begin, end
