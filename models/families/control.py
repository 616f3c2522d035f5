"""Families whose U-Net follows a picture, read by a ControlNet beside it at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from edgefusion.models.config_file import ConfigFile
from edgefusion.models.families.family import Configs, Family, Part
from edgefusion.models.families.pictures import CONTROLLED, PictureUse
from edgefusion.models.families.stable_diffusion import StableDiffusion
from edgefusion.models.families.stable_diffusion_xl import StableDiffusionXL
from edgefusion.models.networks.autoencoder import KlDecoder
from edgefusion.models.networks.control import ControlNet, conditioning_factor
from edgefusion.models.networks.kind import halvings
from edgefusion.models.networks.unet import (
    ConditionalUNet,
    channels_of,
    context_width,
    layers_of,
)

_CONTROL = Part("controlnet", "controlnet", ControlNet())


def _controlled(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """``parts`` with a ControlNet before the denoiser, which takes what it makes."""
    unet = ConditionalUNet(controlled=True)
    found: list[Part] = []
    for part in parts:
        found += [_CONTROL, part.of_kind(unet)] if part.role == "denoiser" else [part]
    return tuple(found)


class _Controlled(Family):
    """What families with a ControlNet have besides those without."""

    pictures: ClassVar[PictureUse] = CONTROLLED

    def check(self, configs: Configs, component: str) -> None:
        """See the base class."""
        super().check(configs, component)
        if component == _CONTROL.component:
            _check_control(configs)


class StableDiffusionControlNet(_Controlled, StableDiffusion):
    """Stable Diffusion with a ControlNet."""

    name: ClassVar[str] = "stable-diffusion-controlnet"
    title: ClassVar[str] = "Stable Diffusion v1 or v2 with a ControlNet"
    pipelines: ClassVar[Mapping[str, int]] = MappingProxyType(
        {"StableDiffusionControlNetPipeline": 50}
    )
    parts: ClassVar[tuple[Part, ...]] = _controlled(StableDiffusion.parts)


class StableDiffusionXLControlNet(_Controlled, StableDiffusionXL):
    """Stable Diffusion XL with a ControlNet."""

    name: ClassVar[str] = "stable-diffusion-xl-controlnet"
    title: ClassVar[str] = "Stable Diffusion XL with a ControlNet"
    pipelines: ClassVar[Mapping[str, int]] = MappingProxyType(
        {"StableDiffusionXLControlNetPipeline": 50}
    )
    parts: ClassVar[tuple[Part, ...]] = _controlled(StableDiffusionXL.parts)


def _same(
    control: ConfigFile, unet: ConfigFile, key: str, of: Callable[[Mapping[str, Any]], object]
) -> None:
    """Raises InputError unless both configurations say the same of ``key``."""
    if of(control.values) != of(unet.values):
        raise control.error(
            key,
            f"unet/config.json has {unet.values.get(key)!r}: the ControlNet is of another U-Net. "
            "Take one that was trained for this U-Net.",
        )


def _check_control(configs: Configs) -> None:
    """Raises InputError unless the ControlNet fits the U-Net and the VAE beside it."""
    control = configs.of(_CONTROL.component)
    if "unet" in configs.components:
        unet = configs.of("unet")
        _same(control, unet, "block_out_channels", channels_of)
        _same(control, unet, "layers_per_block", layers_of)
        _same(control, unet, "cross_attention_dim", context_width)
        _same(control, unet, "addition_embed_type", lambda v: v.get("addition_embed_type"))
    if "vae_decoder" in configs.components:
        vae = configs.of("vae_decoder")
        factor = 2 ** halvings(vae, KlDecoder.usual_levels)
        if conditioning_factor(control.values) != factor:
            raise control.error(
                "conditioning_embedding_out_channels",
                f"expected as many numbers as the VAE has levels, for {factor} pixels are one of "
                "its latent. Take both from one pipeline.",
            )
