"""``edgefusion data``: stages of training data, L-orig to synt-cur (EdgeFusion, Table 8)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefusion.cli.data_curation import curate, pack, sheet
from edgefusion.cli.data_options import (
    ColumnOption,
    DatasetArgument,
    FormatOption,
    OutputOption,
    TokenizerOption,
    checked_format,
    plug_in,
    prompt_provider,
    prompts_digest,
    require_extra,
    stage_command,
    tokenizer_in,
)
from edgefusion.cli.output import JsonOption, emit, progress
from edgefusion.cli.paths import Reads
from edgefusion.cli.table import Column, Table
from edgefusion.toolchain.reporting.number_forms import quantity

if TYPE_CHECKING:
    from edgefusion.models.data.stage import Result, Stage

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Stage training data: each command reads a dataset and leaves a new one, with report.json "
    "and dropped.jsonl. An interrupted command, repeated, goes on where it stopped.\n\n"
    "Examples: `edgefusion data check laion/`; `edgefusion data preprocess laion/ -o L-pp --scorer "
    "centre`; `edgefusion data pack L-pps synt -o L-pps-synt`.",
)


@app.callback()
def data() -> None:
    """Stages of training data."""


@app.command()
def check(
    dataset: DatasetArgument,
    caption_column: ColumnOption = "text",
    tokenizer: TokenizerOption = None,
    json_to: JsonOption = None,
) -> None:
    """Count what a dataset holds: unreadable images, missing captions, sizes, captions cut.

    Example: `edgefusion data check laion/ --caption-column caption --tokenizer sd/tokenizer`.
    """
    require_extra()
    from edgefusion.models.data.check import check as run
    from edgefusion.models.data.dataset import open_dataset

    with progress() as say:
        opened = open_dataset(dataset, caption_column)
        document = run(opened, tokenizer=tokenizer_in(tokenizer), say=say)
    figures = {"samples": document["samples"], **document["faults"]}
    sides = document["shorter_side_pixels"].items()
    figures |= {f"shorter side in pixels, {key.replace('_', ' ')}": value for key, value in sides}
    figures["captions"] = document["captions"]
    if document["captions_cut"] is not None:
        figures["captions CLIP cuts"] = document["captions_cut"]
    rows = [{"what": what, "value": value} for what, value in figures.items()]
    columns = (Column("what", ""), Column("value", "", quantity))
    emit([Table(str(dataset), columns, rows)], lambda: document, json_to=json_to)


@app.command()
def preprocess(
    dataset: DatasetArgument,
    output: OutputOption,
    scorer: Annotated[
        str,
        typer.Option(
            metavar="DIR|MODULE:NAME|centre",
            help="Chooses among centre and end crops: a CLIP model's folder, a callable, or none.",
        ),
        Reads(),
    ],
    least_pixels: Annotated[
        int, typer.Option(min=1, help="Drop images whose shorter side is smaller.")
    ] = 300,
    duplicate_bits: Annotated[
        int, typer.Option(min=0, max=32, help="Bits of 64 in which duplicates' pHash may differ.")
    ] = 4,
    size: Annotated[int, typer.Option(min=8, help="Scale crops down to this many pixels.")] = 512,
    remove: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keys to remove by hand, one a line."),
        Reads(),
    ] = None,
    image_format: FormatOption = "png",
    caption_column: ColumnOption = "text",
    tokenizer: TokenizerOption = None,
    json_to: JsonOption = None,
) -> None:
    """L-orig to L-pp: deduplicate, drop small images, crop, remove by hand.

    Example: `edgefusion data preprocess laion/ -o L-pp --scorer clip-vit-large/ --remove bad.txt`.
    """
    require_extra()
    from edgefusion.models.clip import clip_scorer
    from edgefusion.models.data.dataset import open_dataset
    from edgefusion.models.data.preprocess import (
        PreprocessSettings,
        centre_scorer,
        removal_list,
    )
    from edgefusion.models.data.preprocess import preprocess as run

    settings = PreprocessSettings(
        least_pixels=least_pixels,
        duplicate_bits=duplicate_bits,
        size_pixels=size,
        form=checked_format(image_format),
        scorer=scorer,
        removed=removal_list(remove) if remove else (),
    )
    opened = open_dataset(dataset, caption_column)
    chosen = centre_scorer if scorer == "centre" else plug_in(scorer, clip_scorer)
    counter = tokenizer_in(tokenizer)

    def body(stage: Stage) -> Result:
        return run(stage, opened, settings, chosen, tokenizer=counter)

    stage_command("L-pp", output, str(dataset), opened.digest, settings.to_json(), body, json_to)


@app.command()
def recaption(
    dataset: DatasetArgument,
    output: OutputOption,
    captioner: Annotated[
        str,
        typer.Option(metavar="DIR|MODULE:NAME", help="Image-to-text model's folder, or callable."),
        Reads(),
    ],
    instruction: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="What models that take text are told, image mark included."
        ),
    ] = "",
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 8,
    caption_column: ColumnOption = "text",
    tokenizer: TokenizerOption = None,
    json_to: JsonOption = None,
) -> None:
    """L-pp to L-pps: new captions.

    Example: `edgefusion data recaption L-pp -o L-pps --captioner blip-large/ --tokenizer
    sd/tokenizer`.
    """
    require_extra()
    from edgefusion.models.data.captioner import captioner_from_folder
    from edgefusion.models.data.dataset import open_dataset
    from edgefusion.models.data.recaption import recaption as run

    opened = open_dataset(dataset, caption_column)
    made = plug_in(captioner, lambda folder: captioner_from_folder(folder, instruction))
    counter = tokenizer_in(tokenizer)
    settings = {"captioner": captioner, "instruction": instruction, "batch": batch}

    def body(stage: Stage) -> Result:
        return run(stage, opened, made, batch=batch, tokenizer=counter)

    stage_command("L-pps", output, str(dataset), opened.digest, settings, body, json_to)


@app.command()
def synthesize(
    output: OutputOption,
    prompts: Annotated[
        str,
        typer.Option(
            metavar="FILE|URL|MODULE:NAME",
            help="Prompts, one a line; an OpenAI-compatible server (http://.../v1); a callable.",
        ),
        Reads(),
    ],
    generator: Annotated[
        str,
        typer.Option(metavar="DIR|MODULE:NAME", help="A diffusers pipeline, or a callable."),
        Reads(),
    ],
    count: Annotated[int, typer.Option(min=1, help="Prompts to ask for.")],
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 25,
    guidance: Annotated[float, typer.Option(min=0, help="Classifier-free guidance scale.")] = 7.5,
    size: Annotated[
        int | None,
        typer.Option(min=8, help="Image side in pixels; the pipeline's own if left out."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of image 0; image i has this + i.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 1,
    prompt_model: Annotated[str, typer.Option(metavar="NAME", help="Model of the server.")] = "",
    instruction: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the server is told; may hold {count}, {first}."),
        Reads(),
    ] = None,
    key_variable: Annotated[
        str, typer.Option(metavar="NAME", help="Environment variable with the server's key.")
    ] = "OPENAI_API_KEY",
    image_format: FormatOption = "png",
    tokenizer: TokenizerOption = None,
    json_to: JsonOption = None,
) -> None:
    """synt: invent prompts and draw them.

    Examples: `edgefusion data synthesize -o synt --prompts prompts.txt --count 1000 --generator
    sdxl/ --size 1024`; `... --prompts http://localhost:8000/v1 --prompt-model my-llm`.
    """
    require_extra()
    from edgefusion.models.data.synthesize import SynthesisSettings
    from edgefusion.models.data.synthesize import synthesize as run
    from edgefusion.models.pipeline_generator import pipeline_generator

    settings = SynthesisSettings(
        count=count,
        seed=seed,
        batch=batch,
        form=checked_format(image_format),
        prompts=prompts,
        generator=generator,
    )
    provider = prompt_provider(prompts, prompt_model, instruction, key_variable, seed)
    made = plug_in(
        generator,
        lambda folder: pipeline_generator(folder, steps=steps, guidance=guidance, size_pixels=size),
    )
    counter = tokenizer_in(tokenizer)
    record = settings.to_json() | {
        "steps": steps,
        "guidance": guidance,
        "size_pixels": size,
        "prompt_model": prompt_model,
    }

    def body(stage: Stage) -> Result:
        return run(stage, settings, provider, made, tokenizer=counter)

    stage_command("synt", output, prompts, prompts_digest(provider), record, body, json_to)


for _command in (sheet, curate, pack):
    app.command()(_command)
