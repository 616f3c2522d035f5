"""``edgefusion compile``: a checkpoint to an NPU bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli import completion
from edgefusion.cli.component_table import component_rows, components_table
from edgefusion.cli.host_tables import host_call_rows, host_op_rows, host_tables
from edgefusion.cli.options import (
    ComponentsOption,
    ControlsOption,
    ImagesOption,
    LoraOption,
    MasksOption,
    RandomWeightsOption,
    ShapeOption,
    SourceArgument,
    VariantOption,
    parse_shapes,
    picture_sets,
    split_names,
)
from edgefusion.cli.output import JsonOption, emit, progress
from edgefusion.cli.paths import Reads, Writes, WritesIn
from edgefusion.cli.remarks import RemarksCommand, RemarksOption, chosen_by, remark_lines
from edgefusion.cli.table import Column, Table, plain
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.toolchain.compiling.budgets import Budgets
from edgefusion.toolchain.reporting.number_forms import seconds, whole

if TYPE_CHECKING:
    from edgefusion.api import CompileResult
    from edgefusion.compiler.bundle.remarks import Remark

SCHEMA_VERSION = 1
app = typer.Typer(add_completion=False)

_PASSES = (
    Column("component", "component"),
    Column("name", "pass"),
    Column("duration_s", "seconds", seconds),
    Column("matched", "rewrites", whole),
    Column("missed", "near-matches", whole),
    Column("nodes_after", "nodes after", whole),
)
_STAGES = (
    Column("component", "component", lambda v: plain(v) or "(all)"),
    Column("stage", "stage"),
    Column("seconds", "seconds", seconds),
)


@app.command(name="compile", cls=RemarksCommand)
def compile_(
    source: SourceArgument,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT.npub", help="Bundle."),
        Writes(Kind.BUNDLE),
    ],
    target: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.toml",
            help="The machine; see `targets`.",
            autocompletion=completion.targets,
        ),
        Reads(),
    ] = "exynos2400",
    schedule: Annotated[
        str,
        typer.Option(
            metavar="serial|mlt|pipelined",
            help="How engines take turns.",
            autocompletion=completion.schedules,
        ),
    ] = "pipelined",
    components: ComponentsOption = None,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Denoising steps an image; as usual for the pipeline when left out."
        ),
    ] = None,
    scheduler: Annotated[
        str,
        typer.Option(
            metavar="own|NAME",
            help="What denoises: the pipeline's own scheduler, or one of diffusers by name, such "
            "as LCM or PNDM.",
            autocompletion=completion.noise_schedulers,
        ),
    ] = "own",
    height: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Of images; the pipeline's own when left out."),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Of images; the pipeline's own when left out."),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Go S times as far towards the prompt as predicted, the U-Net running with it and "
            "without; of students distilled with guidance, which take S as an input, 7.5 when left "
            "out.",
        ),
    ] = None,
    image_to_image: Annotated[
        bool,
        typer.Option(
            "--image-to-image",
            help="Start from a picture, which the VAE's encoder reads: run then takes --image.",
        ),
    ] = False,
    strength: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="How far to go from the picture, up to 1: so much of the noise schedule is run; "
            "the pipeline's usual value when left out.",
        ),
    ] = None,
    control_scale: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="How much the picture counts that a ControlNet follows; 1 when left out.",
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Precision by component and op."),
        Reads(),
    ] = None,
    random_weights: RandomWeightsOption = None,
    variant: VariantOption = None,
    lora: LoraOption = None,
    shape: ShapeOption = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep exports here, and reuse those of the same source."),
        WritesIn(),
    ] = None,
    dump_ir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the graph after every pass as text."),
        WritesIn(),
    ] = None,
    time_passes: Annotated[
        bool, typer.Option("--time-passes", help="Show what each pass and stage took.")
    ] = False,
    remarks: RemarksOption = None,
    max_sram_bytes: Annotated[
        int | None, typer.Option(metavar="N", help="Fail if an op's tiles need more SRAM.")
    ] = None,
    max_dram_bytes: Annotated[
        int | None,
        typer.Option(metavar="N", help="Fail if a component occupies more DRAM memory."),
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(metavar="X", help="Fail if an image takes longer.")
    ] = None,
    calibration_prompts: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How many prompts to calibrate with: 2 of the folder's prompts.txt or of the "
            "built-in ones, or all of --prompts, when left out; 0: latency only, no values.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Calibrate with these, one a line; # begins a comment."),
        Reads(),
    ] = None,
    image: ImagesOption = None,
    mask: MasksOption = None,
    control: ControlsOption = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Reuse a bundle's COMPONENT/calibration.json."),
        Reads(),
    ] = None,
    calibration_method: Annotated[
        str, typer.Option(metavar="minmax|percentile|mse", help="How ranges become scales.")
    ] = "minmax",
    timestep_tables: Annotated[
        bool,
        typer.Option(
            "--timestep-tables/--any-timestep",
            help="Look up what depends on the timestep alone, for 1, 2, 4 and --steps steps; or "
            "compute it on the NPU, for any timestep.",
        ),
    ] = True,
    transposing: Annotated[
        bool,
        typer.Option(
            help="Make convolutions of doubled images transposed ones where that is faster.",
        ),
    ] = True,
    json_to: JsonOption = None,
) -> None:
    """Compile a checkpoint to an NPU bundle.

    Examples: `edgefusion compile bk-sdm-tiny -o tiny.npub --schedule mlt`;
    `edgefusion compile ./my-pipeline -o my.npub --steps 4 --max-latency-ms 500`;
    `edgefusion compile ./my-pipeline -o my.npub --height 768 --width 512 --steps 25`;
    `edgefusion compile ./my-pipeline -o my.npub --image-to-image --strength 0.6 --steps 25`;
    `edgefusion compile ./my-pipeline -o my.npub --prompts ours.txt --calibration-prompts 8`;
    `edgefusion compile ./my-pipeline -o my.npub --image-to-image --image a.png --image b.png`;
    `edgefusion compile ./my-pipeline -o my.npub --lora lcm.safetensors:0.8`;
    `edgefusion compile ./my-pipeline -o my.npub --remarks fuse-attention`;
    `edgefusion compile resnet.onnx -o resnet.npub --shape input=1x3x224x224`.

    Exit code 5 means that something does not fit or exceeds a budget; no bundle is written then.
    """
    from edgefusion.api import compile_source
    from edgefusion.runtime.latency import total_label
    from edgefusion.toolchain.compiling.host_share import heavy_host

    if remarks is not None:
        chosen_by(remarks)  # a slip is told now
    chosen = _calibration_prompts(calibration_prompts, prompts)
    sets = picture_sets(image, mask, control)
    with progress() as say:
        result = compile_source(
            source,
            output=output,
            target=target,
            schedules=(schedule,),
            components=split_names(components),
            steps=steps,
            scheduler=scheduler,
            height=height,
            width=width,
            guidance=guidance,
            image_to_image=image_to_image,
            strength=strength,
            control_scale=control_scale,
            random_weights=random_weights,
            variant=variant,
            loras=lora or (),
            recipe=recipe,
            shapes=parse_shapes(shape),
            budgets=Budgets(max_sram_bytes, max_dram_bytes, max_latency_ms),
            work_dir=work_dir,
            dump_ir=dump_ir,
            calibration_prompts=chosen,
            timestep_tables=timestep_tables,
            transposing=transposing,
            pictures=sets,
            calibration=calibration,
            calibration_method=calibration_method,
            progress=say,
        )
    document = compile_json(result, schedule)
    tables = compile_tables(document, time_passes=time_passes)
    total = document["pipeline"]["total_ms"]
    label = total_label([row["component"] for row in document["components"]])
    size = f"{document['bundle_bytes']:,} bytes"
    lines = [f"{result.bundles[schedule]}: {size}, {total:,.3f} ms for {label}"]
    lines += [str(check) for check in result.checks]
    if heavy := heavy_host(result.latencies[schedule]):
        lines.append(f"{heavy}; the table of what is on the host says why")
    if remarks is not None:
        lines = [*remark_lines(_remarks(result), remarks), *lines]
    document["warnings"] = say.warnings
    emit(tables, lambda: document, json_to=json_to, lines=lines, warnings=say.warnings)


def _remarks(result: CompileResult) -> dict[str, list[Remark]]:
    """By component, in the order in which they were made."""
    return {
        name: [remark for record in records for remark in record.remarks]
        for name, records in result.passes.items()
    }


def _calibration_prompts(count: int | None, file: Path | None) -> int | tuple[str, ...]:
    """What ``compile_source`` takes. Raises UsageError for a file of fewer prompts than wanted."""
    from edgefusion.models.prompt_file import read_prompts
    from edgefusion.toolchain.compiling.compile_source import DEFAULT_CALIBRATION_PROMPTS

    if file is None:
        return DEFAULT_CALIBRATION_PROMPTS if count is None else count
    found = read_prompts(file)
    if count is not None and not 0 <= count <= len(found):
        raise UsageError(
            f"--calibration-prompts {count}: expected 0 to {len(found)}, as many as {file} holds."
        )
    return found[:count]


def compile_json(result: CompileResult, schedule: str) -> dict[str, Any]:
    """What ``compile --json`` writes, for one schedule of ``result``."""
    manifest, latency = result.manifests[schedule], result.latencies[schedule]
    timed = latency.to_json()["components"]
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle": str(result.bundles[schedule]),
        "bundle_bytes": result.bundle_bytes[schedule],
        "source": {"kind": manifest.source.kind, "name": manifest.source.name},
        "target": manifest.target.name,
        "schedule": schedule,
        "steps": manifest.steps,
        "pipeline": {"total_ms": latency.total_ms, "bound_ms": latency.bound_ps / 1e9},
        "components": component_rows(manifest, timed),
        "host_ops": host_op_rows(manifest),
        "host_calls": host_call_rows(manifest),
        "source_checks": [check.to_json() for check in result.checks],
        "passes": [
            {
                "component": name,
                "name": record.name,
                "duration_s": record.duration_s,
                "matched": record.matched,
                "missed": record.missed,
                "nodes_after": record.nodes_after,
            }
            for name, records in result.passes.items()
            for record in records
        ],
        "remarks": [
            {"component": name, **remark.to_json()}
            for name, made in _remarks(result).items()
            for remark in made
        ],
        "stages": [
            {"component": time.component, "stage": time.stage, "seconds": time.seconds}
            for time in result.stages
        ],
    }


def compile_tables(document: dict[str, Any], *, time_passes: bool = False) -> list[Table]:
    """The tables of ``compile_json``'s document."""
    tables = [components_table(document["components"])]
    tables += host_tables(document)
    if time_passes:
        tables.append(Table("Passes", _PASSES, document["passes"]))
        tables.append(Table("Stages", _STAGES, document["stages"]))
    return tables
