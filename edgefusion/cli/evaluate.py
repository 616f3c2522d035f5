"""``edgefusion evaluate``: IS, FID and CLIP score of a pipeline or a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.output import JsonOption, emit, progress, write_json
from edgefusion.cli.paths import Reads, WritesIn
from edgefusion.cli.table import Column, Table
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from edgefusion.models.data.plug_in_types import Generator
    from edgefusion.models.evaluation.scores import ScoreNetworks

SCHEMA_VERSION = 1
METRICS = ("is", "fid", "clip")
RESULT = "evaluation.json"
PAPER_STEPS, PAPER_GUIDANCE = 25, 7.5
app = typer.Typer(add_completion=False)


@app.command()
def evaluate(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A diffusers pipeline's folder, or a .npub bundle."),
        Reads(),
    ],
    captions: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="COCO's captions_val2014.json, or .csv, .jsonl, or lines of text."
        ),
        Reads(),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Keeps the images; see below."),
        WritesIn({RESULT: Kind.JSON}),
    ],
    real: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Real images, which FID compares with."),
        Reads(),
    ] = None,
    metrics: Annotated[str, typer.Option(metavar="A,B", help="Of is, fid, clip.")] = "is,fid,clip",
    clip: Annotated[
        str | None,
        typer.Option(metavar="DIR|MODULE:NAME", help="CLIP model's folder, for the CLIP score."),
        Reads(),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="FID's network, instead of InceptionV3."),
    ] = None,
    logits: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="IS's network, instead of InceptionV3."),
    ] = None,
    inception_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="InceptionV3's weights; fetched when left out."),
        Reads(),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Captions, each drawn once.")] = 30_000,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Denoising steps: 25, or the bundle's own, when left out."),
    ] = None,
    guidance: Annotated[
        float, typer.Option(min=0, help="Guidance scale of pipelines.")
    ] = PAPER_GUIDANCE,
    size: Annotated[int, typer.Option(min=8, help="Images are scored at this many pixels.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed of image 0; image i has this + i.")] = 0,
    caption_seed: Annotated[int, typer.Option(min=0, help="Draws the captions from COCO's.")] = 0,
    caption_column: Annotated[str, typer.Option(metavar="NAME", help="Column of tables.")] = "text",
    splits: Annotated[int, typer.Option(min=1, help="Parts that IS is averaged over.")] = 10,
    batch: Annotated[int, typer.Option(min=1, help="Images drawn at once.")] = 1,
    reference: Annotated[
        bool, typer.Option("--reference", help="Run a bundle in ONNX Runtime (FP32) instead.")
    ] = False,
    host: Annotated[
        str, typer.Option(metavar="tvm|ort", help="What runs a bundle's host functions.")
    ] = "tvm",
    json_to: JsonOption = None,
) -> None:
    """Score a model by the paper's protocol: COCO val2014 captions, 25 steps, images at 256 pixels.

    Examples: `edgefusion evaluate bk-sdm-tiny/ --captions captions_val2014.json --real val2014/
    --clip clip-vit-large/ -o eval`; `edgefusion evaluate tiny.npub --captions prompts.txt --count
    100 --metrics clip --clip clip-vit-large/ -o eval-npu`.

    Images stay in the folder by prompt and seed, so that a repeated command draws what is missing
    alone; evaluation.json there holds the scores with all settings.
    """
    # 1. Check the request, before hours of drawing rest on it
    chosen = _metrics(metrics, real, clip)
    is_bundle = model.suffix == ".npub"
    with progress() as say:
        from edgefusion.models.checkpoint import file_digest, folder_digest
        from edgefusion.models.data.imagefolder import image_paths
        from edgefusion.models.evaluation.drawing import claim, draw_missing
        from edgefusion.models.evaluation.prompts import evaluation_prompts
        from edgefusion.models.evaluation.scores import scores
        from edgefusion.models.local_weights import default_device

        if not (model.is_file() if is_bundle else model.is_dir()):
            raise InputError(f"{model}: expected a diffusers pipeline's folder or a .npub bundle.")
        prompts = evaluation_prompts(captions, count, column=caption_column, seed=caption_seed)
        real_images = image_paths(real) if real and "fid" in chosen else []
        networks = _networks(chosen, features, logits, inception_weights, clip)
        say(f"digesting {model}")
        drawing = {
            "model_digest": file_digest(model) if is_bundle else folder_digest(model),
            "executed_by": _executor(is_bundle, reference),
            "steps": _steps(model, steps) if is_bundle else steps or PAPER_STEPS,
            "guidance": None if is_bundle else guidance,
            "seed": seed,
            "batch": batch,
        }

        # 2. Draw what is missing, 3. score it
        claim(output, drawing)
        generator = _generator(model, drawing, reference, host, say)
        images = draw_missing(output, prompts, seed, generator, batch=batch, say=say)
        found = scores(
            images,
            prompts,
            real_images,
            networks,
            size_pixels=size,
            splits=splits,
            device=default_device(),
            say=say,
        )

    # 4. Report
    document = {
        "schema_version": SCHEMA_VERSION,
        "scores": found,
        "model": str(model),
        "drawing": drawing,
        "captions": str(captions),
        "captions_digest": file_digest(captions),
        "caption_seed": caption_seed,
        "count": count,
        "real": str(real) if real_images else None,
        "real_images": len(real_images),
        "size_pixels": size,
        "resampling": "centre square, bicubic",
        "splits": splits,
        "features": features or "inception-v3-compat 2048",
        "logits": logits or "inception-v3-compat logits_unbiased",
        "clip": clip,
        "versions": _versions(),
    }
    write_json(str(output / RESULT), document)
    rows = [{"metric": name, "value": value} for name, value in found.items()]
    columns = (Column("metric", "metric"), Column("value", "value", _score))
    note = f"{count} captions, {drawing['steps']} steps, {size} pixels; images in {output}"
    table = Table(str(model), columns, rows, note)
    emit([table], lambda: document, json_to=json_to, warnings=say.warnings)


def _metrics(names: str, real: Path | None, clip: str | None) -> tuple[str, ...]:
    chosen = tuple(name.strip() for name in names.split(",") if name.strip())
    if not chosen or any(name not in METRICS for name in chosen):
        raise UsageError(f"--metrics {names}: expected some of {', '.join(METRICS)}.")
    if "fid" in chosen and real is None:
        raise UsageError("FID compares with real images; name their folder with --real.")
    if "clip" in chosen and clip is None:
        raise UsageError("the CLIP score needs a CLIP model; name its folder with --clip.")
    from importlib.util import find_spec

    if find_spec("torchmetrics") is None:
        raise UsageError("this command needs torchmetrics: pip install 'edgefusion[train]'.")
    return chosen


def _networks(
    chosen: tuple[str, ...],
    features: str | None,
    logits: str | None,
    weights: Path | None,
    clip: str | None,
) -> ScoreNetworks:
    from edgefusion.models.evaluation.networks import FEATURES, LOGITS, clip_pair, image_network
    from edgefusion.models.evaluation.scores import ScoreNetworks

    return ScoreNetworks(
        features=image_network(features, FEATURES, weights) if "fid" in chosen else None,
        logits=image_network(logits, LOGITS, weights) if "is" in chosen else None,
        clip=clip_pair(clip) if clip and "clip" in chosen else None,
    )


def _generator(
    model: Path, drawing: dict[str, Any], reference: bool, host: str, say: Say
) -> Generator:
    """What draws; it is loaded when the first image is wanted, for there may be none."""
    from functools import cache

    @cache
    def loaded() -> Generator:
        if model.suffix == ".npub":
            from edgefusion.toolchain.running.bundle_generator import bundle_generator
            from edgefusion.toolchain.running.drawing import Wishes

            wishes = Wishes(drawing["steps"])
            return bundle_generator(model, wishes, reference=reference, host=host, say=say)
        from edgefusion.models.pipeline_generator import pipeline_generator

        return pipeline_generator(model, steps=drawing["steps"], guidance=drawing["guidance"])

    def draw(prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Image]:
        return loaded()(prompts, seeds)

    return draw


def _executor(is_bundle: bool, reference: bool) -> str:
    if not is_bundle:
        return "diffusers"
    return "onnxruntime" if reference else "npu"


def _steps(bundle: Path, steps: int | None) -> int:
    """The steps asked for, or the bundle's own; UsageError for those that it cannot do, and for one
    that wants pictures."""
    from edgefusion.api import open_bundle
    from edgefusion.models.pictures import check_pictures
    from edgefusion.toolchain.running.execution import pipeline_of

    opened = open_bundle(bundle)
    wanted = steps or opened.manifest.steps
    _, sampling = pipeline_of(opened)
    check_pictures(sampling.family.pictures, {}, bundle.name)
    sampling.timesteps(wanted)
    return wanted


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "torchmetrics", "diffusers", "transformers")}


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
