"""Stable Diffusion v1 and v2, BK-SDM, networks made for phones, and students of these."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from edgefusion.compiler.bundle.deployment import LCM
from edgefusion.models.families.family import (
    CONTEXT,
    GUIDANCE_SCALE,
    HIDDEN,
    NO_IP_ADAPTER,
    Array,
    Arrays,
    Configs,
    Family,
    Part,
    Shapes,
    guidance_condition,
)
from edgefusion.models.families.unet_checks import check_together
from edgefusion.models.networks.autoencoder import KlDecoder, TinyDecoder
from edgefusion.models.networks.clip_text import ClipText
from edgefusion.models.networks.mobile_unet import MobileUNet
from edgefusion.models.networks.unet import ConditionalUNet, check_supported
from edgefusion.models.noise_scheduler import NoiseScheduler

_TEXT = "text_encoder"
_AS_TRAINED: Mapping[str, Any] = MappingProxyType({"steps_offset": 1, "clip_sample": False})


class StableDiffusion(Family):
    """One CLIP text encoder, whose last states are the U-Net's context."""

    name: ClassVar[str] = "stable-diffusion"
    title: ClassVar[str] = "Stable Diffusion v1 or v2"
    pipelines: ClassVar[Mapping[str, int]] = MappingProxyType(
        {"StableDiffusionPipeline": 50, "LatentConsistencyModelPipeline": 4}
    )
    parts: ClassVar[tuple[Part, ...]] = (
        Part(_TEXT, "text_encoder", ClipText(), tokenizer="tokenizer"),
        Part("unet", "unet", ConditionalUNet(), others=(MobileUNet(),)),
        Part("vae_decoder", "vae", KlDecoder(), others=(TinyDecoder(),)),
    )
    harmless: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "feature_extractor": "it only prepares pictures for the safety checker",
            "image_encoder": NO_IP_ADAPTER,
            "safety_checker": "pictures are not filtered",
        }
    )

    def check(self, configs: Configs, component: str) -> None:
        """See the base class."""
        super().check(configs, component)
        if component == "unet":
            check_supported(
                configs.of(component),
                "addition_embed_type",
                (None, "text"),
                "it asks for inputs (pooled text, image sizes) that no part here makes, as in SDXL",
            )
        check_together(configs, component, (_TEXT,))

    def scheduler(self, name: str, config: Mapping[str, Any]) -> NoiseScheduler:
        """See the base class. Whatever its file says, diffusers' StableDiffusionPipeline sets two
        keys of a scheduler, as the models were trained with."""
        return super().scheduler(name, config if name == LCM else {**config, **_AS_TRAINED})

    def conditions(
        self, encoded: Mapping[str, Arrays], shapes: Shapes, guidance: float = GUIDANCE_SCALE
    ) -> dict[str, Array]:
        """See the base class."""
        made = guidance_condition(shapes, guidance)
        if _TEXT in encoded:
            made[CONTEXT] = np.asarray(encoded[_TEXT][HIDDEN])
        return made
