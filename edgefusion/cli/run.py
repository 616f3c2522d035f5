"""``edgefusion run``: execute a bundle's programs, to an image or to arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.options import BundleArgument
from edgefusion.cli.output import JsonOption, emit, progress
from edgefusion.runtime.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgefusion.compiler.bundle import Bundle
    from edgefusion.execution import Say
    from edgefusion.models.text_to_image import Network

SCHEMA_VERSION = 1
app = typer.Typer(add_completion=False)


@app.command()
def run(
    bundle: BundleArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Image (.png) or arrays (.npz).")
    ],
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the image is to show.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the initial and all later noise.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(metavar="1|2|4", help="Denoising steps; the bundle's own when left out."),
    ] = None,
    component: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run this component alone, on --inputs.")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(metavar="X.npz", help="Arrays by name, for --component.")
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Compute in ONNX Runtime (FP32) instead.")
    ] = False,
    host: Annotated[
        str, typer.Option(metavar="tvm|ort", help="What runs the host functions.")
    ] = "tvm",
    json_to: JsonOption = None,
) -> None:
    """Run a bundle's programs, instruction by instruction, on values.

    Examples: `edgefusion run tiny.npub --prompt "a red boat" -o boat.png`;
    `edgefusion run tiny.npub --component unet --inputs x.npz -o y.npz`.

    Results are what the NPU's arithmetic gives, bit for bit (docs/arithmetic.md). The bundle must
    have been compiled with --calibration-prompts.
    """
    from edgefusion.api import open_bundle

    if (prompt is None) == (component is None) or (component is None) != (inputs is None):
        raise UsageError("expected either --prompt, or --component together with --inputs.")
    with progress() as say:
        say(f"checking {bundle}")
        opened = open_bundle(bundle)
        if prompt is not None:
            wanted = opened.manifest.steps if steps is None else steps
            document = _image(opened, prompt, output, seed, wanted, reference, host, say)
        else:
            assert component is not None
            assert inputs is not None
            document = _arrays(opened, component, inputs, output, reference, host, say)
    lines = [f"{output}: {document['summary']}"]
    emit([], lambda: document, json_to=json_to, lines=lines)


def _image(
    bundle: Bundle,
    prompt: str,
    output: Path,
    seed: int,
    steps: int,
    reference: bool,
    host: str,
    say: Say,
) -> dict[str, Any]:
    from PIL import Image

    from edgefusion.compiler.bundle_zip import disk_errors, replacing
    from edgefusion.execution import (
        PIPELINE,
        BundleNetworks,
        pipeline_of,
        require_calibrated,
        tokenizer_of,
    )
    from edgefusion.models.text_to_image import generate

    if output.suffix.lower() != ".png":
        raise UsageError(f"-o {output}: expected a file that ends in .png.")
    config, sampling = pipeline_of(bundle)
    if not reference:
        require_calibrated(bundle, *PIPELINE)
    tokens = tokenizer_of(bundle, config, say)(prompt)
    if tokens.dropped:
        say(
            f"warning: the prompt is {tokens.dropped} tokens longer than the {tokens.ids.size} "
            "that the text encoder takes (two of them mark begin and end); its end is left out"
        )
    networks = BundleNetworks(lambda name: _network(bundle, name, reference, host, say))
    made = generate(networks, sampling, tokens.ids, seed=seed, steps=steps, say=say)
    with replacing((output,)) as (partial,), disk_errors(output):
        Image.fromarray(made.image).save(partial, format="PNG")
    height, width = made.image.shape[:2]
    return {
        "schema_version": SCHEMA_VERSION,
        "summary": f"{width} x {height} pixels, {steps} steps, seed {seed}",
        "image": str(output),
        "width_pixels": width,
        "height_pixels": height,
        "prompt": prompt,
        "dropped_tokens": tokens.dropped,
        "seed": seed,
        "steps": steps,
        "timesteps": [step.timestep for step in made.steps],
        "executed_by": "onnxruntime" if reference else "npu",
    }


def _arrays(
    bundle: Bundle,
    component: str,
    inputs: Path,
    output: Path,
    reference: bool,
    host: str,
    say: Say,
) -> dict[str, Any]:
    import numpy as np

    from edgefusion.compiler.bundle_zip import disk_errors, replacing
    from edgefusion.execution import checked_inputs

    bundle.manifest.component(component)
    given = checked_inputs(bundle, component, _load(inputs))
    results = _network(bundle, component, reference, host, say)(given)
    with replacing((output,)) as (partial,), disk_errors(output), partial.open("wb") as file:
        np.savez(file, **dict(results))  # type: ignore[arg-type]  # its stubs mix up options
    shapes = {name: list(value.shape) for name, value in results.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "summary": ", ".join(f"{name} {shape}" for name, shape in shapes.items()),
        "component": component,
        "arrays": str(output),
        "shapes": shapes,
        "executed_by": "onnxruntime" if reference else "npu",
    }


def _network(bundle: Bundle, component: str, reference: bool, host: str, say: Say) -> Network:
    from edgefusion.execution import npu_network, reference_network

    if reference:
        return reference_network(bundle, component)
    return npu_network(bundle, component, say=say, host=host)


def _load(path: Path) -> Mapping[str, Any]:
    """The arrays of an .npz file; InputError for whatever else it is."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} is no .npz file of arrays: {reason}. Write one with numpy.savez."
        ) from error
