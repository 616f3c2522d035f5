"""PixArt's diffusion transformer: a noisy latent, its timestep and a context to the noise in it.

Chen et al., "PixArt-alpha", 2023: tokens of 2x2 pixels of the latent; one network of the timestep
for all blocks (adaLN-single), each adding a table of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgefusion.models.config_file import is_count
from edgefusion.models.networks.kind import NetworkKind, Port, Signature, Sizes
from edgefusion.models.networks.unet import check_supported

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.config_file import ConfigFile

PATCH = 2
"""Pixels of the latent on a side of a token, where the configuration states none."""
_ANOTHER = "Take the transformer of a PixArtAlphaPipeline."
_SUPPORTED: Mapping[str, tuple[tuple[object, ...], str]] = MappingProxyType(
    {
        "attention_type": (("default", None), "it asks for grounding inputs"),
        "norm_type": (("ada_norm_single",), "it is a transformer of another family"),
        "upcast_attention": ((False, None), "scores have one precision here"),
    }
)
"""Keys, the values that are supported, and why others are not."""
_COUNTS = ("sample_size", "patch_size", "in_channels", "caption_channels")
_USUAL: Mapping[str, int] = MappingProxyType(
    {"sample_size": 128, "patch_size": PATCH, "in_channels": 4}
)


class PixArtTransformer(NetworkKind):
    """``sample`` [N, c, h, w], ``timestep`` [1], ``encoder_hidden_states`` [N, tokens, width],
    ``encoder_attention_mask`` [N, 1, tokens] -> ``noise_pred`` [N, c, h, w]. The timestep is int64,
    or float32 where it may be a fraction. The mask is added to scores: 0 for tokens that are
    attended to, else ``MASKED_SCORE``; diffusers' class takes it so, too.
    """

    class_name: ClassVar[str] = "PixArtTransformer2DModel"
    library: ClassVar[Literal["diffusers", "transformers"]] = "diffusers"
    title: ClassVar[str] = "transformer"

    def check(self, config: ConfigFile) -> None:
        """See the base class."""
        for key, (supported, why) in _SUPPORTED.items():
            check_supported(config, key, supported, why, _ANOTHER)
        for key in _COUNTS:
            if not is_count(config.values.get(key, _USUAL.get(key))):
                raise config.error(key, f"expected a whole number above 0. {_ANOTHER}")
        taken, made = config.values.get("in_channels", 4), config.values.get("out_channels", 8)
        if made not in (None, taken, 2 * taken):
            raise config.error(
                "out_channels",
                f"expected {taken} (in_channels), the noise, or {2 * taken}, a variance beside it. "
                f"{_ANOTHER}",
                made,
            )

    def divisor(self, config: ConfigFile) -> int:
        """See the base class."""
        return int(config.values.get("patch_size", PATCH))

    def graph(self, part: nn.Module) -> nn.Module:
        """See the base class."""
        from edgefusion.models.transformer_graphs import PixArtGraph

        return PixArtGraph(part)

    def signature(self, config: Any, sizes: Sizes, batch: int = 1) -> Signature:
        """See the base class."""
        latent = sizes.latent or self.own_size(config)
        words = sizes.context_tokens
        sample = (batch, config.in_channels, *latent)
        return Signature(
            (
                Port("sample", sample),
                Port("timestep", (1,), sizes.timestep_dtype),
                Port("encoder_hidden_states", (batch, words, config.caption_channels)),
                Port("encoder_attention_mask", (batch, 1, words)),
            ),
            (Port("noise_pred", sample),),
        )


class PixArtTransformerBefore(PixArtTransformer):
    """The same network by its class before diffusers gave it one of its own, as in the first
    published folders."""

    class_name: ClassVar[str] = "Transformer2DModel"
