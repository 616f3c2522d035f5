"""Families that paint in a part of a picture, by a U-Net that is given the rest of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from edgefusion.models.families.family import Part
from edgefusion.models.families.image_to_image import with_image_encoder
from edgefusion.models.families.pictures import PictureUse, inpainting
from edgefusion.models.families.stable_diffusion import StableDiffusion
from edgefusion.models.families.stable_diffusion_xl import StableDiffusionXL
from edgefusion.models.networks.unet import ConditionalUNet


def _painting(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """``parts`` with a denoiser that is given mask and picture, and the VAE's encoder."""
    unet = ConditionalUNet(inpaints=True)
    return with_image_encoder(
        tuple(part.of_kind(unet) if part.role == "denoiser" else part for part in parts)
    )


class StableDiffusionInpainting(StableDiffusion):
    """Stable Diffusion, inpainting."""

    name: ClassVar[str] = "stable-diffusion-inpainting"
    title: ClassVar[str] = "Stable Diffusion v1 or v2 for inpainting"
    pipelines: ClassVar[Mapping[str, int]] = MappingProxyType(
        {"StableDiffusionInpaintPipeline": 50}
    )
    parts: ClassVar[tuple[Part, ...]] = _painting(StableDiffusion.parts)
    pictures: ClassVar[PictureUse] = inpainting(1.0)


class StableDiffusionXLInpainting(StableDiffusionXL):
    """Stable Diffusion XL, inpainting."""

    name: ClassVar[str] = "stable-diffusion-xl-inpainting"
    title: ClassVar[str] = "Stable Diffusion XL for inpainting"
    pipelines: ClassVar[Mapping[str, int]] = MappingProxyType(
        {"StableDiffusionXLInpaintPipeline": 50}
    )
    parts: ClassVar[tuple[Part, ...]] = _painting(StableDiffusionXL.parts)
    pictures: ClassVar[PictureUse] = inpainting(0.9999)
