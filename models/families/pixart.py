"""PixArt-alpha, and PixArt-delta, its latent-consistency student.

Chen et al., "PixArt-alpha", 2023: T5 reads the prompt, a diffusion transformer denoises. A prompt
has its own number of tokens: encoder and transformer are told which ones count.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from edgefusion.models.families.family import (
    CONTEXT,
    CONTEXT_MASK,
    GUIDANCE_SCALE,
    HIDDEN,
    Array,
    Arrays,
    Configs,
    Family,
    Part,
    Shapes,
)
from edgefusion.models.networks.autoencoder import (
    KlDecoder,
    TinyDecoder,
    check_factor,
    check_own_size,
    check_scaling,
)
from edgefusion.models.networks.kind import MASKED_SCORE
from edgefusion.models.networks.pixart import PixArtTransformer, PixArtTransformerBefore
from edgefusion.models.networks.t5_text import T5Text
from edgefusion.models.tokenization import T5, Reading

_TEXT, _DENOISER, _DECODER = "text_encoder", "transformer", "vae_decoder"
_FROM_ONE = "Take both from one pipeline."


class PixArt(Family):
    """T5 and a diffusion transformer, with a mask between them."""

    name: ClassVar[str] = "pixart"
    title: ClassVar[str] = "PixArt-alpha"
    pipelines: ClassVar[Mapping[str, int]] = MappingProxyType({"PixArtAlphaPipeline": 20})
    parts: ClassVar[tuple[Part, ...]] = (
        Part(
            _TEXT,
            "text_encoder",
            T5Text(),
            tokenizer="tokenizer",
            # The pipeline's own number. Captions are not cleaned: what it does without the
            # libraries for that (beautifulsoup4 and ftfy).
            reading=Reading(T5, tokens=120, lower_case=True),
        ),
        Part(_DENOISER, "transformer", PixArtTransformer(), others=(PixArtTransformerBefore(),)),
        Part(_DECODER, "vae", KlDecoder(), others=(TinyDecoder(),)),
    )
    harmless: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def check(self, configs: Configs, component: str) -> None:
        """See the base class."""
        super().check(configs, component)
        if component == _DENOISER:
            _check_transformer(configs)
        if component == _DECODER:
            vae = configs.of(_DECODER)
            check_factor(vae)
            if _DENOISER in configs.components:
                check_scaling(vae)
            else:
                check_own_size(vae)

    def conditions(
        self,
        encoded: Mapping[str, Arrays],
        shapes: Shapes,
        guidance: float = GUIDANCE_SCALE,  # noqa: ARG002
    ) -> dict[str, Array]:
        """See the base class. Without a prompt half of the tokens count, so that a mask of both
        values is seen."""
        if _TEXT in encoded:
            made = encoded[_TEXT]
            bias = (1 - np.asarray(made["attention_mask"])[:, None]) * np.float32(MASKED_SCORE)
            return {CONTEXT: np.asarray(made[HIDDEN]), CONTEXT_MASK: bias}
        bias = np.zeros(shapes[CONTEXT_MASK], np.float32)
        bias[..., bias.shape[-1] // 2 :] = MASKED_SCORE
        return {CONTEXT_MASK: bias}


def _check_transformer(configs: Configs) -> None:
    """Raises InputError unless the transformer takes the VAE's latents and what T5 makes."""
    transformer = configs.of(_DENOISER)
    taken = transformer.values.get("in_channels", 4)
    if _DECODER in configs.components:
        latent = configs.of(_DECODER).values.get("latent_channels", 4)
        if taken != latent:
            raise transformer.error(
                "in_channels", f"vae/config.json has latent_channels {latent!r}. {_FROM_ONE}", taken
            )
    if _TEXT in configs.components:
        width = configs.of(_TEXT).values.get("d_model", 512)
        if transformer.values.get("caption_channels") != width:
            raise transformer.error(
                "caption_channels",
                f"text_encoder/config.json has d_model {width!r}: the transformer does not take "
                f"what this text encoder makes. {_FROM_ONE}",
            )
