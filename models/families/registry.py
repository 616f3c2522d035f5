"""All families, and which one a pipeline is of."""

from __future__ import annotations

from edgefusion.models.families.family import Family
from edgefusion.models.families.pixart import PixArt
from edgefusion.models.families.stable_diffusion import StableDiffusion
from edgefusion.models.families.stable_diffusion_xl import StableDiffusionXL
from edgefusion.runtime.errors import InputError

STABLE_DIFFUSION = StableDiffusion()
"""Also what .onnx files named as its components are taken for."""
FAMILIES: tuple[Family, ...] = (STABLE_DIFFUSION, StableDiffusionXL(), PixArt())


def family_named(name: str) -> Family:
    """The family called ``name``. Raises InputError for a name of a later version."""
    for family in FAMILIES:
        if family.name == name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise InputError(f"the pipeline's family {name!r} is none of {known}; update this tool.")


def family_of_class(class_name: str) -> Family | None:
    """The family that diffusers' class of a pipeline belongs to."""
    return next((family for family in FAMILIES if class_name in family.pipelines), None)
