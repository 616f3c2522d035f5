"""Stable Diffusion 3, with T5 and without.

Esser et al., "Scaling Rectified Flow Transformers", 2024: two CLIP text encoders, whose states
before the last layer stand side by side, and T5, whose states come behind them; the pooled
embeddings of CLIP go into the timestep's. A pipeline without T5 has zeros in its place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from edgefusion.models.families.family import (
    CONTEXT,
    GUIDANCE_SCALE,
    HIDDEN,
    READING_PICTURES,
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
    check_own_size,
    check_scaling,
)
from edgefusion.models.networks.clip_text import ClipTextWithProjection
from edgefusion.models.networks.sd3_transformer import USUAL, Sd3Transformer
from edgefusion.models.networks.t5_text import T5Text
from edgefusion.models.noise_scheduler import FLOW, NoiseScheduler
from edgefusion.models.tokenization import T5, Reading

_CLIP = ("text_encoder", "text_encoder_2")
_T5, _DENOISER, _DECODER = "text_encoder_3", "transformer", "vae_decoder"
_T5_TOKENS = 256
"""The pipeline's own number."""
_FROM_ONE = "Take both from one pipeline."
_AS_TRAINED: Mapping[str, Any] = MappingProxyType({"shift": 3.0})
"""How far timesteps are shifted towards noise, where no file says it."""

_FIRST, _SECOND = (
    Part(name, name, ClipTextWithProjection(penultimate=True), tokenizer=tokenizer)
    for name, tokenizer in zip(_CLIP, ("tokenizer", "tokenizer_2"), strict=True)
)
_THIRD = Part(
    _T5,
    _T5,
    T5Text(masked=False),
    tokenizer="tokenizer_3",
    reading=Reading(T5, tokens=_T5_TOKENS),
)
_REST = (
    Part(_DENOISER, "transformer", Sd3Transformer(further=_T5_TOKENS)),
    Part(_DECODER, "vae", KlDecoder(), others=(TinyDecoder(),)),
)


class StableDiffusion3(Family):
    """Two CLIP text encoders and T5, and a transformer that is denoised by flow matching."""

    name: ClassVar[str] = "stable-diffusion-3"
    title: ClassVar[str] = "Stable Diffusion 3"
    pipelines: ClassVar[Mapping[str, int]] = MappingProxyType({"StableDiffusion3Pipeline": 28})
    parts: ClassVar[tuple[Part, ...]] = (_FIRST, _SECOND, _THIRD, *_REST)
    schedulers: ClassVar[Collection[str]] = (FLOW,)
    usual_scheduler: ClassVar[str] = FLOW
    harmless: ClassVar[Mapping[str, str]] = READING_PICTURES

    def check(self, configs: Configs, component: str) -> None:
        """See the base class."""
        super().check(configs, component)
        if component == _DENOISER:
            _check_latent(configs)
            self._check_texts(configs)
        if component == _DECODER:
            vae = configs.of(_DECODER)
            if _DENOISER in configs.components:
                check_scaling(vae, shifted=True)
            else:
                check_own_size(vae)

    def scheduler(self, name: str, config: Mapping[str, Any]) -> NoiseScheduler:
        """See the base class."""
        return NoiseScheduler(name, {**_AS_TRAINED, **config})

    def conditions(
        self,
        encoded: Mapping[str, Arrays],
        shapes: Shapes,
        guidance: float = GUIDANCE_SCALE,  # noqa: ARG002
    ) -> dict[str, Array]:
        """See the base class."""
        if not set(_CLIP) <= set(encoded):
            return {}
        pooled = np.concatenate([encoded[name]["text_embeds"] for name in _CLIP], axis=-1)
        made = {"pooled_projections": pooled}
        behind = self._behind(encoded, shapes)
        if behind is not None:
            words = np.concatenate([encoded[name][HIDDEN] for name in _CLIP], axis=-1)
            wider = behind.shape[-1] - words.shape[-1]
            words = np.pad(words, ((0, 0), (0, 0), (0, wider)))
            made[CONTEXT] = np.concatenate([words, behind], axis=1)
        return made

    def _behind(self, encoded: Mapping[str, Arrays], shapes: Shapes) -> Array | None:
        """What stands behind CLIP's words; None where it has not run."""
        if _T5 in self.components:
            return np.asarray(encoded[_T5][HIDDEN]) if _T5 in encoded else None
        batch, _, width = shapes[CONTEXT]
        return np.zeros((batch, _T5_TOKENS, width), np.float32)

    def _check_texts(self, configs: Configs) -> None:
        """Raises InputError unless the transformer takes what the text encoders make."""
        transformer = configs.of(_DENOISER)
        width = transformer.values.get("joint_attention_dim", USUAL["joint_attention_dim"])
        if _T5 in configs.components and configs.of(_T5).values.get("d_model", 512) != width:
            raise transformer.error(
                "joint_attention_dim", f"expected text_encoder_3's d_model. {_FROM_ONE}", width
            )
        if not set(_CLIP) <= set(configs.components):
            return
        clip = [configs.of(name).values for name in _CLIP]
        if sum(values.get("hidden_size", 512) for values in clip) > width:
            raise transformer.error(
                "joint_attention_dim",
                "expected at least the hidden_size of text_encoder and text_encoder_2 together. "
                f"{_FROM_ONE}",
                width,
            )
        pooled = transformer.values.get("pooled_projection_dim", USUAL["pooled_projection_dim"])
        made = sum(values.get("projection_dim", 512) for values in clip)
        if pooled != made:
            raise transformer.error(
                "pooled_projection_dim",
                f"expected {made}, the projection_dim of text_encoder and text_encoder_2 together. "
                f"{_FROM_ONE}",
                pooled,
            )


class StableDiffusion3WithoutT5(StableDiffusion3):
    """As its base, for folders that leave T5 out, as it has more weights than all else."""

    name: ClassVar[str] = "stable-diffusion-3-without-t5"
    title: ClassVar[str] = "Stable Diffusion 3 without T5"
    parts: ClassVar[tuple[Part, ...]] = (_FIRST, _SECOND, *_REST)


def _check_latent(configs: Configs) -> None:
    """Raises InputError unless the transformer takes the VAE's latents."""
    if _DECODER not in configs.components:
        return
    transformer = configs.of(_DENOISER)
    taken = transformer.values.get("in_channels", USUAL["in_channels"])
    latent = configs.of(_DECODER).values.get("latent_channels", 4)
    if taken != latent:
        raise transformer.error(
            "in_channels", f"vae/config.json has latent_channels {latent!r}. {_FROM_ONE}", taken
        )
