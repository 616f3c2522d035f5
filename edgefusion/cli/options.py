"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from edgefusion.cli import completion
from edgefusion.cli.paths import Reads
from edgefusion.models.architectures import PRESETS
from edgefusion.models.shipped import SHIPPED
from edgefusion.runtime.errors import UsageError


def near_names(name: str, known: Iterable[str]) -> str:
    """ " Did you mean x?", or nothing where none is near."""
    close = get_close_matches(name, list(known), 2)
    return f" Did you mean {' or '.join(close)}?" if close else ""


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help=f"Preset ({', '.join(PRESETS)}: weights drawn from a seed; -stress is hard to "
        f"quantize), shipped checkpoint ({', '.join(SHIPPED)}), diffusers pipeline folder (or "
        "a .safetensors file of all weights in one), pipeline that optimum exported, hub id "
        "(owner/name), or .onnx file.",
        show_default=False,
        autocompletion=completion.sources,
    ),
    Reads(),
]
BundleArgument = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE",
        help="A .npub file.",
        show_default=False,
        autocompletion=completion.bundles,
    ),
    Reads(),
]
ComponentsOption = Annotated[
    str | None,
    typer.Option(
        "--components",
        metavar="A,B",
        help="Only these of text_encoder, unet, vae_decoder (or of the parts that the pipeline "
        "has), separated by commas.",
    ),
]
RandomWeightsOption = Annotated[
    int | None,
    typer.Option(
        "--random-weights",
        metavar="SEED",
        help="Seed of a preset's random weights (0 when left out); for presets only.",
    ),
]
VariantOption = Annotated[
    str | None,
    typer.Option(
        "--variant",
        metavar="NAME",
        help="Which weight files of a pipeline are meant, such as fp16; when left out those of "
        "full precision, and fp16 where there are no others.",
    ),
]
LoraOption = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="FILE[:SCALE]",
        help="Fuse this LoRA into the weights, so much of it (1 when left out); once for each.",
    ),
    Reads(),
]
ImagesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--image",
        metavar="FILE",
        help="The picture to start from, in place of a drawn one: of the first prompt, given again "
        "of the next, and so on.",
    ),
    Reads(),
]
MasksOption = Annotated[
    list[Path] | None,
    typer.Option("--mask", metavar="FILE", help="Its mask, white where it is painted anew."),
    Reads(),
]
ControlsOption = Annotated[
    list[Path] | None,
    typer.Option("--control", metavar="FILE", help="The picture that a ControlNet follows."),
    Reads(),
]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=1x77",
        help="Shape of a dynamic input of an .onnx file; once for each input.",
    ),
]


def split_names(text: str | None) -> tuple[str, ...] | None:
    """``a,b`` as names; None stays None."""
    if text is None:
        return None
    return tuple(name.strip() for name in text.split(",") if name.strip())


def picture_sets(
    image: Sequence[Path] | None, mask: Sequence[Path] | None, control: Sequence[Path] | None
) -> tuple[dict[str, Path], ...]:
    """Pictures by name, of one prompt after the other. Raises UsageError for more of one name than
    of another."""
    given = {"image": image, "mask": mask, "control": control}
    files = {name: each for name, each in given.items() if each}
    if len({len(each) for each in files.values()}) > 1:
        counts = " and ".join(f"--{name} {len(each)} times" for name, each in files.items())
        raise UsageError(f"expected as many of each, for they belong together; got {counts}.")
    return tuple(dict(zip(files, each, strict=True)) for each in zip(*files.values(), strict=True))


def parse_shapes(texts: list[str] | None) -> dict[str, tuple[int, ...]]:
    """``name=1x3x224x224`` each. Raises UsageError for anything else."""
    shapes = {}
    for text in texts or []:
        name, _, sizes = text.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split("x"))
        except ValueError:
            shape = ()
        if not name or not shape:
            raise UsageError(f"--shape {text}: expected NAME=1x77, as in --shape input_ids=1x77.")
        shapes[name] = shape
    return shapes


def count_or_prompts(text: str, built_in: tuple[str, ...]) -> tuple[str, ...]:
    """``--prompts N|FILE``: the first N of the ``built_in`` prompts, or all of a file.

    Raises UsageError for another number, InputError for a file that holds no prompts.
    """
    from edgefusion.models.prompt_file import read_prompts

    if not text.lstrip("-").isdecimal():
        return read_prompts(Path(text))
    if not 1 <= int(text) <= len(built_in):
        raise UsageError(
            f"--prompts {text}: expected 1 to {len(built_in)}, as many as there are built in, or "
            "a file of prompts."
        )
    return built_in[: int(text)]
