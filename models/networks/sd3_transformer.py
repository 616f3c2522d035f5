"""Stable Diffusion 3's diffusion transformer: a noisy latent, its timestep, a context and a pooled
text to the velocity from picture to noise.

Esser et al., "Scaling Rectified Flow Transformers", 2024: tokens of picture and text attend to
both.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgefusion.models.config_file import is_count
from edgefusion.models.networks.kind import NetworkKind, Port, Signature, Sizes

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.config_file import ConfigFile

_ANOTHER = "Take the transformer of a StableDiffusion3Pipeline."
USUAL: Mapping[str, int] = MappingProxyType(
    {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 2048,
    }
)
"""Sizes, where the configuration states none."""


class Sd3Transformer(NetworkKind):
    """``sample`` [N, c, h, w], ``timestep`` [1], ``encoder_hidden_states`` [N, tokens, width],
    ``pooled_projections`` [N, width] -> ``noise_pred`` [N, c, h, w].

    ``further`` tokens of the context stand behind those that text encoders share.
    """

    class_name: ClassVar[str] = "SD3Transformer2DModel"
    library: ClassVar[Literal["diffusers", "transformers"]] = "diffusers"
    title: ClassVar[str] = "transformer"

    def __init__(self, *, further: int) -> None:
        self.further = further

    def check(self, config: ConfigFile) -> None:
        """See the base class."""
        for key, usual in USUAL.items():
            if not is_count(config.values.get(key, usual)):
                raise config.error(key, f"expected a whole number above 0. {_ANOTHER}")
        taken, made = config.values.get("in_channels", 16), config.values.get("out_channels", 16)
        if made not in (None, taken):
            raise config.error(
                "out_channels",
                f"expected {taken} (in_channels): it predicts a velocity. {_ANOTHER}",
                made,
            )

    def divisor(self, config: ConfigFile) -> int:
        """See the base class."""
        return int(config.values.get("patch_size", USUAL["patch_size"]))

    def graph(self, part: nn.Module) -> nn.Module:
        """See the base class."""
        from edgefusion.models.transformer_graphs import Sd3Graph

        return Sd3Graph(part)

    def signature(self, config: Any, sizes: Sizes, batch: int = 1) -> Signature:
        """See the base class."""
        latent = sizes.latent or self.own_size(config)
        words = sizes.context_tokens + self.further
        sample = (batch, config.in_channels, *latent)
        return Signature(
            (
                Port("sample", sample),
                Port("timestep", (1,), sizes.timestep_dtype),
                Port("encoder_hidden_states", (batch, words, config.joint_attention_dim)),
                Port("pooled_projections", (batch, config.pooled_projection_dim)),
            ),
            (Port("noise_pred", sample),),
        )
