"""All families, and which one a pipeline is of."""

from __future__ import annotations

from collections.abc import Collection

from edgefusion.models.families.control import (
    StableDiffusionControlNet,
    StableDiffusionXLControlNet,
)
from edgefusion.models.families.family import Family
from edgefusion.models.families.image_to_image import (
    LatentConsistencyImageToImage,
    StableDiffusionImageToImage,
    StableDiffusionXLImageToImage,
)
from edgefusion.models.families.inpainting import (
    StableDiffusionInpainting,
    StableDiffusionXLInpainting,
)
from edgefusion.models.families.pixart import PixArt
from edgefusion.models.families.stable_diffusion import StableDiffusion
from edgefusion.models.families.stable_diffusion_3 import (
    StableDiffusion3,
    StableDiffusion3WithoutT5,
)
from edgefusion.models.families.stable_diffusion_xl import StableDiffusionXL
from edgefusion.runtime.errors import InputError

STABLE_DIFFUSION = StableDiffusion()
"""Also what .onnx files named as its components are taken for."""
FAMILIES: tuple[Family, ...] = (
    STABLE_DIFFUSION,
    StableDiffusionXL(),
    PixArt(),
    StableDiffusion3(),
    StableDiffusion3WithoutT5(),
    StableDiffusionImageToImage(),
    LatentConsistencyImageToImage(),
    StableDiffusionXLImageToImage(),
    StableDiffusionInpainting(),
    StableDiffusionXLInpainting(),
    StableDiffusionControlNet(),
    StableDiffusionXLControlNet(),
)


def family_named(name: str) -> Family:
    """The family called ``name``. Raises InputError for a name of a later version."""
    for family in FAMILIES:
        if family.name == name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise InputError(f"the pipeline's family {name!r} is none of {known}; update this tool.")


def family_of_class(class_name: str, parts: Collection[str] = ()) -> Family | None:
    """The family that diffusers' class of a pipeline belongs to; of several the first that has
    the fewest parts beyond those (``parts``) that a folder names."""
    found = [family for family in FAMILIES if class_name in family.pipelines]

    def lacking(family: Family) -> int:
        return sum(part.folder not in parts for part in family.parts)

    return min(found, key=lacking, default=None)


def family_from_picture(class_name: str, family: Family) -> Family | None:
    """The family that starts from a picture with the networks of ``family``, which diffusers' class
    of a pipeline belongs to; itself where it does, and None where there is none."""
    if family.pictures.start is not None:
        return family
    named = class_name if class_name in family.pipelines else next(iter(family.pipelines))
    return next((each for each in FAMILIES if named in each.without_picture), None)
