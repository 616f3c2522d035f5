"""``edgefusion export``: a source as ONNX files, the first stage of a compilation by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgefusion.cli.options import (
    ComponentsOption,
    RandomWeightsOption,
    ShapeOption,
    SourceArgument,
    parse_shapes,
    split_names,
)
from edgefusion.cli.output import JsonOption, emit, progress
from edgefusion.cli.table import Column, Table, megabytes

SCHEMA_VERSION = 1
app = typer.Typer(add_completion=False)

_COLUMNS = (
    Column("component", "component"),
    Column("graph", "graph"),
    Column("graph_bytes", "graph MB", megabytes),
    Column("weight_bytes", "weights MB", megabytes),
)


@app.command()
def export(
    source: SourceArgument,
    directory: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder.")],
    components: ComponentsOption = None,
    random_weights: RandomWeightsOption = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Batch size.")] = 1,
    shape: ShapeOption = None,
    json_to: JsonOption = None,
) -> None:
    """Write each component as ONNX: static shapes, weights in a file beside the graph.

    Examples: `edgefusion export bk-sdm-tiny -o onnx`;
    `edgefusion export ./my-pipeline -o onnx --components unet`.
    """
    from edgefusion.api import components_of
    from edgefusion.compiler.bundle_zip import disk_errors
    from edgefusion.models.export import export_component
    from edgefusion.models.source import resolve_source

    shapes = parse_shapes(shape)
    resolved = resolve_source(source, random_weights_seed=random_weights)
    chosen = components_of(resolved, split_names(components))
    rows: list[dict[str, Any]] = []
    with progress() as say, disk_errors(directory):
        for component in chosen:
            graph = export_component(
                resolved, component, directory, batch=batch, shapes=shapes or None, progress=say
            )
            data = graph.with_name(f"{graph.name}.data")
            rows.append(
                {
                    "component": component,
                    "graph": str(graph),
                    "graph_bytes": graph.stat().st_size,
                    "weight_bytes": data.stat().st_size if data.exists() else 0,
                }
            )
    document = {"schema_version": SCHEMA_VERSION, "source": resolved.name, "components": rows}
    emit([Table(f"Exported {resolved.name}", _COLUMNS, rows)], lambda: document, json_to=json_to)
