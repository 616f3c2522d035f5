"""Families that start from a picture, with the networks of one that makes pictures of prompts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from edgefusion.models.families.family import Part
from edgefusion.models.families.pictures import PictureUse, from_picture
from edgefusion.models.families.stable_diffusion import StableDiffusion
from edgefusion.models.families.stable_diffusion_xl import StableDiffusionXL
from edgefusion.models.networks.autoencoder import KlEncoder, TinyEncoder

_IMAGE_ENCODER = Part("vae_encoder", "vae", KlEncoder(), others=(TinyEncoder(),))


def with_image_encoder(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """``parts``, and the VAE's encoder after those that read the prompt."""
    readers = sum(part.role == "encoder" for part in parts)
    return (*parts[:readers], _IMAGE_ENCODER, *parts[readers:])


class StableDiffusionImageToImage(StableDiffusion):
    """Stable Diffusion, from a picture."""

    name: ClassVar[str] = "stable-diffusion-image-to-image"
    title: ClassVar[str] = "Stable Diffusion v1 or v2 from a picture"
    pipelines: ClassVar[Mapping[str, int]] = MappingProxyType(
        {"StableDiffusionImg2ImgPipeline": 50}
    )
    parts: ClassVar[tuple[Part, ...]] = with_image_encoder(StableDiffusion.parts)
    pictures: ClassVar[PictureUse] = from_picture(0.8)
    without_picture: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline",)


class LatentConsistencyImageToImage(StableDiffusionImageToImage):
    """A latent-consistency student, from a picture: all of its steps follow it."""

    name: ClassVar[str] = "latent-consistency-image-to-image"
    title: ClassVar[str] = "a latent-consistency student from a picture"
    pipelines: ClassVar[Mapping[str, int]] = MappingProxyType(
        {"LatentConsistencyModelImg2ImgPipeline": 4}
    )
    pictures: ClassVar[PictureUse] = from_picture(0.8, spreads_steps=True)
    without_picture: ClassVar[tuple[str, ...]] = ("LatentConsistencyModelPipeline",)


class StableDiffusionXLImageToImage(StableDiffusionXL):
    """Stable Diffusion XL, from a picture."""

    name: ClassVar[str] = "stable-diffusion-xl-image-to-image"
    title: ClassVar[str] = "Stable Diffusion XL from a picture"
    pipelines: ClassVar[Mapping[str, int]] = MappingProxyType(
        {"StableDiffusionXLImg2ImgPipeline": 50}
    )
    parts: ClassVar[tuple[Part, ...]] = with_image_encoder(StableDiffusionXL.parts)
    pictures: ClassVar[PictureUse] = from_picture(0.3)
    without_picture: ClassVar[tuple[str, ...]] = ("StableDiffusionXLPipeline",)
