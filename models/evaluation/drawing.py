"""Images of all prompts, kept on disk by prompt and seed: a run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgefusion.models.data.images import encoded
from edgefusion.models.data.plug_in_types import Generator
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.files import kept_on_disk_errors, write_whole
from edgefusion.runtime.partials import remove_leftovers_below
from edgefusion.runtime.progress import Say, silent

SETTINGS = "drawing.json"


def image_path(folder: Path, prompt: str, seed: int) -> Path:
    """Where the image of ``prompt`` from ``seed`` lies."""
    name = hashlib.sha256(f"{seed}\0{prompt}".encode()).hexdigest()[:32]
    return folder / "images" / name[:2] / f"{name}.png"


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make ``folder`` the place for images drawn with ``settings``.

    Raises UsageError where it already holds those of others.
    """
    path = folder / SETTINGS
    remove_leftovers_below(folder)
    document = json.dumps(settings, indent=1, sort_keys=True).encode() + b"\n"
    if path.is_file():
        if path.read_bytes() != document:
            raise UsageError(
                f"{folder} holds images of another model or other settings (see {path}). Name "
                "another folder with -o, or remove it."
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no {SETTINGS}; name another folder.")
    write_whole(path, document)


def draw_missing(
    folder: Path,
    prompts: Sequence[str],
    seed: int,
    generator: Generator,
    *,
    batch: int,
    say: Say = silent,
) -> list[Path]:
    """The images' files; number i is drawn from ``seed`` + i. Batches always begin at the same
    prompts: one that lacks any image is drawn whole, so that resuming changes no pixel."""
    paths = [image_path(folder, prompt, seed + i) for i, prompt in enumerate(prompts)]
    for first in range(0, len(prompts), batch):
        part = slice(first, first + batch)
        say(f"drawing: {first} of {len(prompts)} images")
        if all(path.is_file() for path in paths[part]):
            continue
        wanted = list(prompts[part])
        images = list(generator(wanted, [seed + i for i in range(first, first + len(wanted))]))
        if len(images) != len(wanted):
            raise InputError(f"the model gave {len(images)} images for {len(wanted)} prompts.")
        with kept_on_disk_errors(folder):
            for path, image in zip(paths[part], images, strict=True):
                write_whole(path, encoded(image.convert("RGB"), "png"))
    return paths
