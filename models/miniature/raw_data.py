"""What the stages of data start from: raw pairs with the faults of pairs from the web, and prompts
with a generator that does not always draw what it is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from edgefusion.models.data.imagefolder import METADATA
from edgefusion.models.data.images import encoded, file_name
from edgefusion.models.miniature.shapes import (
    ATTRIBUTES,
    MIDDLE,
    SIDE_PX,
    Scene,
    caption,
    generator,
    picture,
    random_scene,
    told,
)
from edgefusion.runtime.files import write_whole

_LONG_SIDE_PX = 48
_OPENINGS = ("", "a picture of ", "a drawing of ", "an image of ", "a painting of ")


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of raw pairs with each fault; they are drawn independently."""

    duplicate: float = 0.15
    """The picture of an earlier pair, under a caption of its own."""
    small: float = 0.15
    """A third of the side."""
    off_centre: float = 0.35
    """The scene at one end of a longer picture, whose other end is another ground."""
    missing_caption: float = 0.05
    vague_caption: float = 0.25
    """Tells nothing, or the shape alone."""
    wrong_caption: float = 0.35
    """Tells of another scene."""


def write_raw(folder: Path, seed: int, count: int, faults: Faults | None = None) -> None:
    """L-orig: an image folder of ``count`` pairs; the listing comes last."""
    chosen = faults or Faults()
    rows = []
    for index in range(count):
        image, text = raw_pair(seed, index, chosen)
        name = file_name(index, ".png")
        write_whole(folder / name, encoded(image, "png"))
        rows.append(json.dumps({"file_name": name, "text": text}))
    write_whole(folder / METADATA, ("\n".join(rows) + "\n").encode())


def raw_pair(seed: int, index: int, faults: Faults) -> tuple[Image.Image, str]:
    """Pair number ``index``, a function of seed and index."""
    rng = generator(seed, index)
    shown = index
    if index and rng.random() < faults.duplicate:
        shown = int(rng.integers(index))
    scene, image = _raw_picture(seed, shown, faults)
    return image, _raw_caption(scene, rng, faults)


def _raw_picture(seed: int, index: int, faults: Faults) -> tuple[Scene, Image.Image]:
    rng = np.random.default_rng((seed, index, 1))
    scene = random_scene(rng)
    pixels = picture(scene, rng)
    if rng.random() < faults.off_centre:
        ground = pixels[:1, :1].repeat(SIDE_PX, 0).repeat(_LONG_SIDE_PX - SIDE_PX, 1)
        ends = [pixels, np.asarray(255 - ground, np.uint8)]
        pixels = np.concatenate(ends if rng.random() < 0.5 else ends[::-1], axis=1)
    image = Image.fromarray(pixels)
    if rng.random() < faults.small:
        image = image.resize((image.width // 3, image.height // 3))
    return scene, image


def _raw_caption(scene: Scene, rng: np.random.Generator, faults: Faults) -> str:
    kinds = ("", "vague", "wrong", "right")
    shares = [faults.missing_caption, faults.vague_caption, faults.wrong_caption]
    kind = rng.choice(kinds, p=[*shares, 1 - sum(shares)])
    if kind == "vague":
        return "a picture" if rng.random() < 0.5 else f"a picture of a {scene.shape}"
    if kind == "":
        return ""
    return caption(random_scene(rng) if kind == "wrong" else scene)


UNPLACED_PROMPTS = 0.25


@dataclass(frozen=True, slots=True)
class Prompts:
    """A ``PromptProvider``: captions of random scenes, a share of them without position."""

    seed: int
    without_position: float = UNPLACED_PROMPTS

    def __call__(self, start: int, count: int) -> Sequence[str]:
        """See ``PromptProvider``."""
        made = []
        for index in range(start, start + count):
            rng = generator(self.seed, index)
            scene = random_scene(rng)
            text = caption(scene, with_position=rng.random() >= self.without_position)
            made.append(str(rng.choice(_OPENINGS)) + text)
        return made


@dataclass(frozen=True, slots=True)
class Draughtsman:
    """A ``Generator``, in place of a large model: draws the prompt, in the middle unless it says
    where, but for a share of the images in which one attribute is another than told."""

    wrong: float = 0.2

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """See ``Generator``."""
        return [self._drawn(p, seed) for p, seed in zip(prompts, seeds, strict=True)]

    def _drawn(self, prompt: str, seed: int) -> Image.Image:
        rng = np.random.default_rng((seed, 2))
        scene = replace(random_scene(rng), **{"position": MIDDLE, **told(prompt)})
        if rng.random() < self.wrong:
            name = str(rng.choice(list(ATTRIBUTES)))
            scene = replace(scene, **{name: str(rng.choice(ATTRIBUTES[name]))})
        return Image.fromarray(picture(scene, rng))
