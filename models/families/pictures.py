"""What a family does with pictures that it is given, beside the prompt: data of its description.

Where denoising starts, and what follows from pictures that is the same for all of its steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Shapes = Mapping[str, tuple[int, ...]]

PICTURE, MASK = "image", "mask"
"""Names of pictures, and of the options that they are given with."""
MOMENTS = "moments"
"""What an image encoder makes that does not make latents themselves: of a normal distribution of
these mean and logarithm of variance, side by side [1, 2c, h, w]."""
CONTROL = "control"
CONTROL_IMAGE, CONTROL_SCALE = "control_image", "control_scale"
"""What a control is given."""
MASKED_LATENT = "masked_image_latent"
_MASKED = "masked_image"

Form = Literal["signed", "unit", "mask"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that running takes, and how it is given to networks: red, green and blue
    [1, 3, H, W] in [-1, 1] (``signed``) or in [0, 1] (``unit``), or one channel [1, 1, H, W] that
    is 1 where it is bright, else 0 (``mask``)."""

    name: str
    form: Form = "signed"
    what: str = "the picture to start from"
    """As messages say it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """``derived`` pictures by name; the latents of ``encoded`` ones, as the denoiser takes latents;
    shapes of all inputs of what runs every step; how much a picture counts that is followed."""

    pictures: Arrays
    latents: Arrays
    shapes: Shapes
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class PictureUse:
    """Which pictures are ``given``, and what is made of them.

    Denoising starts from the latent of the picture ``start``, with noise added, or from noise where
    there is none. ``strength`` is how much of the noise schedule is run where nothing else is said;
    None where that is always all of it. At strength 1 the start is noise alone where
    ``noise_alone_at_full``. ``spreads_steps``: all steps are taken from the part of the schedule
    that is run, if the scheduler can, and not cut from the whole one's.

    ``scale`` is how much a picture that is followed counts, where nothing else is said; None where
    there is no such picture.

    ``encoded`` are further pictures whose latents are the same for all steps.
    """

    given: tuple[Picture, ...] = ()
    start: str | None = None
    strength: float | None = None
    noise_alone_at_full: bool = False
    spreads_steps: bool = False
    encoded: tuple[str, ...] = ()
    scale: float | None = None

    @property
    def whole(self) -> float | None:
        """The strength at which all of the noise schedule is run."""
        return None if self.strength is None else 1.0

    def starts_from(self, strength: float | None) -> str | None:
        """The name of the picture that denoising starts from at a ``strength``."""
        return None if self.noise_alone_at_full and strength == 1 else self.start

    def encodings(self, strength: float | None) -> int:
        """How often the image encoder runs for an image."""
        return (self.starts_from(strength) is not None) + len(self.encoded)

    def derived(self, pictures: Arrays) -> dict[str, Array]:
        """``pictures`` by name, and what is made of them before any network sees them."""
        return {**pictures}

    def conditions(self, seen: Seen) -> dict[str, Array]:  # noqa: ARG002
        """Inputs of what runs every step that follow from pictures, and are the same for all steps,
        with or without the prompt."""
        return {}


NO_PICTURES = PictureUse()
"""Of what makes pictures of prompts alone."""


def from_picture(strength: float, *, spreads_steps: bool = False) -> PictureUse:
    """Image-to-image: denoising starts from a picture (Meng et al., "SDEdit", 2022)."""
    given = (Picture(PICTURE),)
    return PictureUse(given, PICTURE, strength, spreads_steps=spreads_steps)


@dataclass(frozen=True, slots=True)
class Inpainting(PictureUse):
    """A denoiser that is given the mask and the latent of what it leaves of the picture."""

    def derived(self, pictures: Arrays) -> dict[str, Array]:
        """See the base class: what is to be painted is mid-grey, 0."""
        left = pictures[MASK] < 0.5
        return {**pictures, _MASKED: (pictures[PICTURE] * left).astype(np.float32)}

    def conditions(self, seen: Seen) -> dict[str, Array]:
        """See the base class: of the mask, the nearest pixel to the upper left of each of the
        latent's."""
        height, width = seen.shapes[MASK][-2:]
        mask = seen.pictures[MASK]
        rows = np.arange(height) * mask.shape[-2] // height
        columns = np.arange(width) * mask.shape[-1] // width
        return {MASK: mask[..., rows[:, None], columns], MASKED_LATENT: seen.latents[_MASKED]}


def inpainting(strength: float) -> PictureUse:
    """As diffusers' inpainting pipelines take pictures: at strength 1 nothing is left of what is to
    be painted anew."""
    return Inpainting(
        (
            Picture(PICTURE, what="the picture to paint in"),
            Picture(MASK, "mask", "white where the picture is to be painted anew"),
        ),
        PICTURE,
        strength,
        noise_alone_at_full=True,
        encoded=(_MASKED,),
    )


@dataclass(frozen=True, slots=True)
class Controlled(PictureUse):
    """A control, which runs at each step before the denoiser, is given the picture."""

    def conditions(self, seen: Seen) -> dict[str, Array]:
        """See the base class."""
        scale = np.array([self.scale if seen.scale is None else seen.scale], np.float32)
        return {CONTROL_IMAGE: seen.pictures[CONTROL], CONTROL_SCALE: scale}


CONTROLLED = Controlled(
    (Picture(CONTROL, "unit", "the picture to follow, such as edges, depth or a pose"),), scale=1.0
)
