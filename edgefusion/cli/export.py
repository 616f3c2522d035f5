"""``edgefusion export``: a source as ONNX files, the first stage of a compilation by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.options import (
    ComponentsOption,
    LoraOption,
    RandomWeightsOption,
    ShapeOption,
    SourceArgument,
    VariantOption,
    parse_shapes,
    split_names,
)
from edgefusion.cli.output import JsonOption, emit, progress
from edgefusion.cli.paths import WritesIn
from edgefusion.cli.table import Column, Table
from edgefusion.runtime.claims import Output, claim_outputs
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.toolchain.reporting.number_forms import megabytes, whole

if TYPE_CHECKING:
    from edgefusion.models.source import Source

SCHEMA_VERSION = 1
app = typer.Typer(add_completion=False)

_COLUMNS = (
    Column("component", "component"),
    Column("graph", "graph"),
    Column("graph_bytes", "graph MB", megabytes),
    Column("weight_bytes", "weights MB", megabytes),
)


_QDQ_COLUMNS = (
    Column("component", "component"),
    Column("graph", "graph"),
    Column("qdq_pairs", "QDQ pairs", whole),
    Column("weight_bytes", "weights MB", megabytes),
)


@app.command()
def export(
    source: SourceArgument,
    directory: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder."), WritesIn()
    ],
    components: ComponentsOption = None,
    random_weights: RandomWeightsOption = None,
    variant: VariantOption = None,
    lora: LoraOption = None,
    image_to_image: Annotated[
        bool,
        typer.Option(
            "--image-to-image",
            help="Of the pipeline that starts from a picture.",
        ),
    ] = False,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Batch size.")] = 1,
    shape: ShapeOption = None,
    qdq: Annotated[
        bool,
        typer.Option(
            "--qdq",
            help="SOURCE is a calibrated bundle: write its W8A16 components as standard ONNX, "
            "INT8 weights and INT16 activations in QDQ pairs (operator set 21).",
        ),
    ] = False,
    json_to: JsonOption = None,
) -> None:
    """Write each component as ONNX: static shapes, weights in a file beside the graph.

    Examples: `edgefusion export bk-sdm-tiny -o onnx`;
    `edgefusion export ./my-pipeline -o onnx --components unet`;
    `edgefusion export tiny.npub -o onnx --qdq`.
    """
    from edgefusion.models.source import resolve_source
    from edgefusion.models.strength import starting_from_picture

    if qdq:
        if random_weights is not None or variant or lora or batch != 1 or shape or image_to_image:
            raise UsageError("--qdq takes a bundle, whose weights, batch and shapes are fixed.")
        name, rows = source, _quantized(Path(source), directory, components)
    else:
        shapes = parse_shapes(shape)
        resolved = resolve_source(
            source, random_weights_seed=random_weights, variant=variant, loras=lora or ()
        )
        if image_to_image:
            resolved = starting_from_picture(resolved)
        name, rows = resolved.name, _floating(resolved, directory, components, batch, shapes)
    document = {"schema_version": SCHEMA_VERSION, "source": name, "components": rows}
    columns = _QDQ_COLUMNS if qdq else _COLUMNS
    emit([Table(f"Exported {name}", columns, rows)], lambda: document, json_to=json_to)


def _files(source: Source) -> list[Path]:
    from edgefusion.models.onnx_files import external_files

    if source.path is None:
        return []
    loras = (lora.path for lora in source.loras)
    one = [source.file] if source.file else []
    return [
        source.path,
        *one,
        *loras,
        *(external_files(source.path) if source.kind == "onnx" else ()),
    ]


def _floating(
    source: Source,
    directory: Path,
    components: str | None,
    batch: int,
    shapes: dict[str, tuple[int, ...]],
) -> list[dict[str, Any]]:
    """Export from the source; a row for each component."""
    from edgefusion.models.export import export_component
    from edgefusion.models.pipeline_check import checked_source
    from edgefusion.runtime.files import disk_errors
    from edgefusion.toolchain.compiling.compile_source import components_of

    rows: list[dict[str, Any]] = []
    with progress() as say, disk_errors(directory):
        resolved = checked_source(source, split_names(components), say)
        chosen = components_of(resolved, split_names(components))
        outputs = [Output(directory / f"{name}.onnx", Kind.ONNX) for name in chosen]
        outputs += [Output(directory / f"{name}.onnx.data", Kind.BINARY) for name in chosen]
        claim_outputs(outputs, _files(resolved))
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
    return rows


def _quantized(bundle: Path, directory: Path, components: str | None) -> list[dict[str, Any]]:
    """Export from a calibrated bundle; a row for each component."""
    from edgefusion.api import open_bundle
    from edgefusion.compiler.bundle.qdq_export import export_qdq
    from edgefusion.runtime.files import disk_errors

    rows: list[dict[str, Any]] = []
    with progress() as say, disk_errors(directory):
        say(f"checking {bundle}")
        opened = open_bundle(bundle)
        infos = opened.manifest.components
        chosen = split_names(components) or tuple(i.name for i in infos if i.precision == "w8a16")
        if not chosen:
            raise UsageError(f"{bundle} has no w8a16 component: there is nothing to quantize.")
        outputs = [Output(directory / f"{name}.qdq.onnx", Kind.ONNX) for name in chosen]
        outputs += [
            Output(directory / f"{name}.qdq.safetensors", Kind.SAFETENSORS) for name in chosen
        ]
        claim_outputs(outputs, [bundle])
        directory.mkdir(parents=True, exist_ok=True)
        for component in chosen:
            say(f"{component}: writing QDQ")
            made = export_qdq(opened, component, directory)
            rows.append(
                {
                    "component": component,
                    "graph": str(made.graph),
                    "qdq_pairs": made.pairs,
                    "graph_bytes": made.graph.stat().st_size,
                    "weight_bytes": made.weights.stat().st_size,
                }
            )
    return rows
