"""The presets: shapes of the three networks of a text-to-image pipeline, and how to build them.

Values only; torch, diffusers and transformers are imported when a network is built, because that
import takes seconds and most of the command line needs the shapes alone. Sources: the
configurations published with Stable Diffusion v1.5 and BK-SDM (Kim et al., 2023), whose parameter
counts tests/unit/models/test_architectures.py asserts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

Component = Literal["text_encoder", "unet", "vae_decoder"]
COMPONENTS: tuple[Component, ...] = ("text_encoder", "unet", "vae_decoder")


@dataclass(frozen=True, slots=True)
class TextEncoderArchitecture:
    """A CLIP text transformer; the defaults are ViT-L/14's."""

    vocabulary: int = 49408
    tokens: int = 77
    width: int = 768
    feed_forward_width: int = 3072
    layers: int = 12
    heads: int = 12

    def build(self) -> nn.Module:
        """A transformers CLIPTextModel, initialised by its library."""
        from transformers import CLIPTextConfig, CLIPTextModel

        config = CLIPTextConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.feed_forward_width,
            projection_dim=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=self.tokens,
            hidden_act="quick_gelu",
            bos_token_id=self.vocabulary - 2,
            eos_token_id=self.vocabulary - 1,
            pad_token_id=self.vocabulary - 1,
        )
        model: nn.Module = CLIPTextModel(config)
        return model


@dataclass(frozen=True, slots=True)
class UNetArchitecture:
    """A conditional U-Net; block types and channels run from the outermost level inwards."""

    channels: tuple[int, ...]
    down_blocks: tuple[str, ...]
    up_blocks: tuple[str, ...]
    layers_per_block: int
    has_mid_block: bool
    latent_size: int = 64
    latent_channels: int = 4
    context_width: int = 768
    heads: int = 8
    norm_groups: int = 32
    guidance_embedding_width: int | None = None
    """`time_cond_proj_dim`: set for students of latent-consistency distillation (256)."""

    def build(self) -> nn.Module:
        """A diffusers UNet2DConditionModel, initialised by its library."""
        from diffusers import UNet2DConditionModel

        model: nn.Module = UNet2DConditionModel(
            sample_size=self.latent_size,
            in_channels=self.latent_channels,
            out_channels=self.latent_channels,
            block_out_channels=self.channels,
            down_block_types=self.down_blocks,
            up_block_types=self.up_blocks,
            mid_block_type="UNetMidBlock2DCrossAttn" if self.has_mid_block else None,
            layers_per_block=self.layers_per_block,
            cross_attention_dim=self.context_width,
            attention_head_dim=self.heads,  # diffusers means the number of heads by this name
            norm_num_groups=self.norm_groups,
            time_cond_proj_dim=self.guidance_embedding_width,
        )
        return model


@dataclass(frozen=True, slots=True)
class VaeDecoderArchitecture:
    """The decoding half of AutoencoderKL; channels run from the image side inwards."""

    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_size: int = 64
    latent_channels: int = 4
    norm_groups: int = 32

    @property
    def image_size(self) -> int:
        """Pixels on a side: every level but the innermost doubles."""
        return self.latent_size << (len(self.channels) - 1)

    def build(self) -> nn.Module:
        """A whole diffusers AutoencoderKL (encoder included), initialised by its library."""
        from diffusers import AutoencoderKL

        levels = len(self.channels)
        model: nn.Module = AutoencoderKL(
            sample_size=self.image_size,
            latent_channels=self.latent_channels,
            block_out_channels=self.channels,
            layers_per_block=self.layers_per_block,
            norm_num_groups=self.norm_groups,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        )
        return model


@dataclass(frozen=True, slots=True)
class Architecture:
    """The three networks of one text-to-image pipeline."""

    name: str
    unet: UNetArchitecture
    text_encoder: TextEncoderArchitecture = TextEncoderArchitecture()
    vae_decoder: VaeDecoderArchitecture = VaeDecoderArchitecture()
    stress: bool = False
    """Random weights that are hard to quantize: models.random_weights.STRESS_SCHEME."""


_SD_CHANNELS = (320, 640, 1280, 1280)
_SD_DOWN = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
_SD_UP = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
_TINY_DOWN = ("CrossAttnDownBlock2D",) * 3
_TINY_UP = ("CrossAttnUpBlock2D",) * 3

_TINY = UNetArchitecture(_SD_CHANNELS[:3], _TINY_DOWN, _TINY_UP, 1, False)

_ARCHITECTURES = (
    Architecture("sd-v1.4", UNetArchitecture(_SD_CHANNELS, _SD_DOWN, _SD_UP, 2, True)),
    Architecture("sd-v1.5", UNetArchitecture(_SD_CHANNELS, _SD_DOWN, _SD_UP, 2, True)),
    Architecture("bk-sdm-base", UNetArchitecture(_SD_CHANNELS, _SD_DOWN, _SD_UP, 1, True)),
    Architecture("bk-sdm-small", UNetArchitecture(_SD_CHANNELS, _SD_DOWN, _SD_UP, 1, False)),
    Architecture("bk-sdm-tiny", _TINY),
    # What latent-consistency distillation makes of BK-SDM-Tiny: EdgeFusion's U-Net.
    Architecture("bk-sdm-tiny-lcm", replace(_TINY, guidance_embedding_width=256)),
    # The block types of BK-SDM-Tiny at a size that exports in about a second.
    Architecture(
        "tiny-test",
        UNetArchitecture(
            channels=(32, 64, 64),
            down_blocks=_TINY_DOWN,
            up_blocks=_TINY_UP,
            layers_per_block=1,
            has_mid_block=False,
            latent_size=16,
            context_width=32,
            heads=2,
            norm_groups=8,
        ),
        TextEncoderArchitecture(
            vocabulary=512, width=32, feed_forward_width=128, layers=2, heads=2
        ),
        VaeDecoderArchitecture(
            channels=(32, 32, 64, 64), layers_per_block=1, latent_size=16, norm_groups=8
        ),
    ),
)

_STRESSED = ("bk-sdm-tiny", "tiny-test")

PRESETS: Mapping[str, Architecture] = MappingProxyType(
    {architecture.name: architecture for architecture in _ARCHITECTURES}
    | {
        f"{architecture.name}-stress": replace(
            architecture, name=f"{architecture.name}-stress", stress=True
        )
        for architecture in _ARCHITECTURES
        if architecture.name in _STRESSED
    }
)
