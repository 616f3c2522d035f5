"""``edgefusion run``: execute a bundle's programs, to an image or to arrays."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.options import BundleArgument
from edgefusion.cli.output import JsonOption, emit, progress
from edgefusion.cli.paths import Reads, Writes, is_stdout
from edgefusion.cli.run_images import Easel, network, numbered
from edgefusion.runtime.claims import Output, claim_outputs
from edgefusion.runtime.errors import EdgeFusionError, InputError, UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgefusion.compiler.bundle.bundle import Bundle

SCHEMA_VERSION = 1
app = typer.Typer(add_completion=False)

_DAMAGED = (
    *(ValueError, EOFError, AttributeError, LookupError, TypeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What numpy and zipfile raise for archives that are none, or are encrypted or cut."""


@app.command()
def run(
    bundle: BundleArgument,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Image (.png) or arrays (.npz)."),
        Writes(),
    ],
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the image is to show.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts, one a line; # begins a comment."),
        Reads(),
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Lay the images of --prompts out in one more, -o.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the initial and all later noise.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Denoising steps; the bundle's own when left out."),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="How far to go towards the prompt (1: as predicted); the bundle's own when left "
            "out.",
        ),
    ] = None,
    negative_prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What guidance goes away from; nothing when left out."),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The picture to start from, of the bundle's size."),
        Reads(),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="White where --image is to be painted anew."),
        Reads(),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="How far to go from --image, up to 1: so much of the noise schedule is run; the "
            "bundle's own when left out.",
        ),
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The picture that a ControlNet follows: edges, depth, a pose."
        ),
        Reads(),
    ] = None,
    control_scale: Annotated[
        float | None,
        typer.Option(metavar="S", help="How much of it; the bundle's own when left out."),
    ] = None,
    component: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run this component alone, on --inputs.")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(metavar="X.npz", help="Arrays by name, for --component."), Reads()
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
    `edgefusion run tiny.npub --prompts prompts.txt -o out.png --grid` (out-1.png, out-2.png, ...
    and the grid out.png);
    `edgefusion run i2i.npub --prompt "in oil" --image boat.png --strength 0.6 -o oil.png`;
    `edgefusion run tiny.npub --component unet --inputs x.npz -o y.npz`.

    Results are what the NPU's arithmetic gives, bit for bit (docs/arithmetic.md). The bundle must
    have been compiled with --calibration-prompts 1 or more. Every prompt of a file gets the same
    noise as it gets alone; images are written as they are made, and a prompt that fails is named
    at the end. Host functions are native code: use --host ort for bundles that you do not trust.
    """
    if sum(given is not None for given in (prompt, prompts, component)) != 1 or (
        (component is None) != (inputs is None)
    ):
        raise UsageError("expected either --prompt, --prompts, or --component with --inputs.")
    if grid and prompts is None:
        raise UsageError("--grid lays out the images of --prompts; name a file of them.")
    pictures = {"image": image, "mask": mask, "control": control}
    of_images = (guidance, negative_prompt, strength, control_scale, *pictures.values())
    if component is not None and any(given is not None for given in of_images):
        raise UsageError(
            "--guidance, --negative-prompt, --strength, --control-scale and pictures are of "
            "images; leave --component out."
        )
    from edgefusion.api import open_bundle
    from edgefusion.models.prompt_file import read_prompts
    from edgefusion.toolchain.running.drawing import Wishes

    texts = (prompt,) if prompt is not None else read_prompts(prompts) if prompts else ()
    files = numbered(output, len(texts)) if prompts else ()
    _check_output(output, is_image=bool(texts), numbered=bool(files))
    kind = Kind.PNG if texts else Kind.ARRAYS
    outputs = [Output(file, kind) for file in (*files, output)]
    outputs += [Output(Path(json_to), Kind.JSON)] if json_to and not is_stdout(json_to) else []
    read = (bundle, prompts, inputs, *pictures.values())
    claim_outputs(outputs, [file for file in read if file is not None])
    failed: EdgeFusionError | None = None
    with progress() as say:
        say(f"checking {bundle}")
        opened = open_bundle(bundle)
        if component is not None and inputs is not None:
            document = _arrays(opened, component, inputs, output, reference, host, say)
        else:
            wanted = opened.manifest.steps if steps is None else steps
            wishes = Wishes(wanted, guidance, negative_prompt, pictures, strength, control_scale)
            easel = Easel.of(opened, seed, wishes, reference, host, say)
            if prompt is not None:
                document = easel.paint(prompt, output)
            else:
                document, failed = easel.paint_all(texts, files, output if grid else None)
    lines = [f"{output}: {document['summary']}"]
    document["warnings"] = say.warnings
    emit([], lambda: document, json_to=json_to, lines=lines, warnings=say.warnings)
    if failed is not None:
        raise failed


def _check_output(output: Path, *, is_image: bool, numbered: bool) -> None:
    """Raises UsageError for a file that is not called .png where an image is written to it; a pipe
    may have any name, but one image only goes through it."""
    through = output.exists() and not output.is_file()
    if is_image and output.suffix.lower() != ".png" and (numbered or not through):
        raise UsageError(f"-o {output}: expected a file that ends in .png.")


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

    from edgefusion.runtime.files import disk_errors, replacing
    from edgefusion.toolchain.running.ports import checked_inputs

    bundle.manifest.component(component)
    given = checked_inputs(bundle, component, _load(inputs))
    results = network(bundle, component, reference, host, say)(given)
    with (
        replacing((output,), Kind.ARRAYS) as (partial,),
        disk_errors(output),
        partial.open("wb") as file,
    ):
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


def _load(path: Path) -> Mapping[str, Any]:
    """The arrays of an .npz file; InputError for whatever else it is."""
    import numpy as np

    try:
        with path.open("rb") as file:  # numpy leaves one that it opens open where it fails
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return {name: np.asarray(archive[name]) for name in archive.files}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from error
    except _DAMAGED as error:
        raise InputError(
            f"{path} is no .npz file of numbers. Write one with numpy.savez, arrays by name."
        ) from error
