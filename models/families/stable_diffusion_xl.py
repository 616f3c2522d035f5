"""Stable Diffusion XL, its few-step and smaller students (SDXL-Turbo, SSD-1B).

Podell et al., "SDXL", 2023: two text encoders, whose states before the last layer stand side by
side; the second one's pooled embedding and the picture's sizes go into the timestep's embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from edgefusion.models.families.family import (
    CONTEXT,
    GUIDANCE_SCALE,
    HIDDEN,
    READING_PICTURES,
    SAMPLE,
    Array,
    Arrays,
    Configs,
    Family,
    Part,
    Shapes,
    guidance_condition,
)
from edgefusion.models.families.unet_checks import check_together
from edgefusion.models.networks.autoencoder import FACTOR, KlDecoder, TinyDecoder, check_factor
from edgefusion.models.networks.clip_text import ClipText, ClipTextWithProjection
from edgefusion.models.networks.unet import (
    TEXT_TIME,
    ConditionalUNet,
    check_supported,
    pooled_width,
)

_FIRST, _SECOND = "text_encoder", "text_encoder_2"


class StableDiffusionXL(Family):
    """Two CLIP text encoders, and a U-Net that knows the picture's sizes."""

    name: ClassVar[str] = "stable-diffusion-xl"
    title: ClassVar[str] = "Stable Diffusion XL"
    pipelines: ClassVar[Mapping[str, int]] = MappingProxyType({"StableDiffusionXLPipeline": 50})
    parts: ClassVar[tuple[Part, ...]] = (
        Part(_FIRST, "text_encoder", ClipText(penultimate=True), tokenizer="tokenizer"),
        Part(
            _SECOND,
            "text_encoder_2",
            ClipTextWithProjection(penultimate=True),
            tokenizer="tokenizer_2",
        ),
        Part("unet", "unet", ConditionalUNet()),
        Part("vae_decoder", "vae", KlDecoder(), others=(TinyDecoder(),)),
    )
    zero_without_negative: ClassVar[bool] = True
    harmless: ClassVar[Mapping[str, str]] = READING_PICTURES

    def check(self, configs: Configs, component: str) -> None:
        """See the base class."""
        super().check(configs, component)
        if component == "unet":
            check_supported(
                configs.of(component),
                "addition_embed_type",
                (TEXT_TIME,),
                "a U-Net of this family takes a pooled text and the picture's sizes",
                "Take a StableDiffusionXLPipeline, or correct the class in model_index.json.",
            )
            _check_pooled(configs)
        if component == "vae_decoder":
            check_factor(configs.of(component))
        check_together(configs, component, (_FIRST, _SECOND))

    def conditions(
        self, encoded: Mapping[str, Arrays], shapes: Shapes, guidance: float = GUIDANCE_SCALE
    ) -> dict[str, Array]:
        """See the base class. The picture is taken to be a whole one, made at its size."""
        made = guidance_condition(shapes, guidance)
        if "time_ids" in shapes:
            height, width = (FACTOR * side for side in shapes[SAMPLE][-2:])
            ids = np.array([[height, width, 0, 0, height, width]], np.float32)
            made["time_ids"] = np.broadcast_to(ids, shapes["time_ids"])
        if _FIRST in encoded and _SECOND in encoded:
            states = [encoded[name][HIDDEN] for name in (_FIRST, _SECOND)]
            made[CONTEXT] = np.concatenate(states, axis=-1)
        if _SECOND in encoded:
            made["text_embeds"] = np.asarray(encoded[_SECOND]["text_embeds"])
        return made


def _check_pooled(configs: Configs) -> None:
    """Raises InputError unless the U-Net takes the pooled text that the second encoder makes."""
    unet = configs.of("unet")
    width = pooled_width(unet.values)
    made = width
    if _SECOND in configs.components:
        made = configs.of(_SECOND).values.get("projection_dim", 512)
    if not width or made != width:
        raise unet.error(
            "projection_class_embeddings_input_dim",
            "expected 6 times addition_time_embed_dim and the pooled text's width (projection_dim "
            f"in text_encoder_2/config.json, {made}). Take both from one pipeline.",
        )
