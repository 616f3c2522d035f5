"""Shapes of the networks of text-to-image pipelines, and how to build them.

Values only; torch, diffusers and transformers are imported when a network is built, because that
import takes seconds and most of the command line needs the shapes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import nn


class NetworkArchitecture(Protocol):
    """The shape of one network; hashable."""

    @property
    def divisor(self) -> int:
        """What the sides of its picture have to divide by."""
        ...

    def build(self) -> nn.Module:
        """The library's module, initialised by its library."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TextEncoderArchitecture:
    """A CLIP text transformer; the defaults are ViT-L/14's."""

    class_name: ClassVar[str] = "CLIPTextModel"
    divisor: ClassVar[int] = 1
    vocabulary: int = 49408
    tokens: int = 77
    width: int = 768
    feed_forward_width: int = 3072
    layers: int = 12
    heads: int = 12
    activation: str = "quick_gelu"

    def build(self) -> nn.Module:
        """A transformers CLIPTextModel, initialised by its library."""
        import transformers

        config = transformers.CLIPTextConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.feed_forward_width,
            projection_dim=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=self.tokens,
            hidden_act=self.activation,
            bos_token_id=self.vocabulary - 2,
            eos_token_id=self.vocabulary - 1,
            pad_token_id=self.vocabulary - 1,
        )
        model: nn.Module = getattr(transformers, self.class_name)(config)
        return model


@dataclass(frozen=True, slots=True)
class ProjectedTextEncoderArchitecture(TextEncoderArchitecture):
    """As its base, with a projection of the end mark's state, as wide as the states."""

    class_name: ClassVar[str] = "CLIPTextModelWithProjection"


_SIZE_WIDTH = 256
"""Sines and cosines of each of the picture's sizes."""


@dataclass(frozen=True, slots=True)
class UNetArchitecture:
    """A conditional U-Net; block types and channels run from the outermost level inwards."""

    channels: tuple[int, ...]
    down_blocks: tuple[str, ...]
    up_blocks: tuple[str, ...]
    layers_per_block: int | tuple[int, ...]
    """On the way down, in all levels or in each; on the way up there is one more."""
    has_mid_block: bool
    mid_attention: bool = True
    """Whether the mid block has a transformer and a residual block behind it, too."""
    latent_size: int = 64
    latent_channels: int = 4
    context_width: int = 768
    heads: int | tuple[int, ...] = 8
    """In all levels, or in each."""
    norm_groups: int = 32
    linear_projections: bool = False
    """Into and out of transformers: by linear layers, or by 1x1 convolutions."""
    transformer_layers: int | tuple[Any, ...] = 1
    """In each transformer, or by level, or for each of a level."""
    transformer_layers_up: tuple[Any, ...] | None = None
    """On the way up, from the innermost level outwards; None: those of the way down, turned."""
    pooled_width: int | None = None
    """Numbers of the pooled text that it takes beside the picture's sizes; None: neither."""
    guidance_embedding_width: int | None = None
    """`time_cond_proj_dim`: set for students of latent-consistency distillation (256)."""

    @property
    def divisor(self) -> int:
        """Of the latent: every level but the innermost halves."""
        return 1 << (len(self.channels) - 1)

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
            mid_block_type=self._mid_block(),
            layers_per_block=self.layers_per_block,
            cross_attention_dim=self.context_width,
            attention_head_dim=self.heads,  # diffusers means the number of heads by this name
            norm_num_groups=self.norm_groups,
            time_cond_proj_dim=self.guidance_embedding_width,
            use_linear_projection=self.linear_projections,
            transformer_layers_per_block=self.transformer_layers,
            reverse_transformer_layers_per_block=self.transformer_layers_up,
            **self._sizes(),
        )
        return model

    def _mid_block(self) -> str | None:
        if not self.has_mid_block:
            return None
        return "UNetMidBlock2DCrossAttn" if self.mid_attention else "UNetMidBlock2D"

    def _sizes(self) -> dict[str, Any]:
        """What makes it take a pooled text and the picture's sizes."""
        if self.pooled_width is None:
            return {}
        return {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _SIZE_WIDTH,
            "projection_class_embeddings_input_dim": self.pooled_width + 6 * _SIZE_WIDTH,
        }


@dataclass(frozen=True, slots=True)
class VaeDecoderArchitecture:
    """The decoding half of AutoencoderKL; channels run from the image side inwards."""

    convolves_latent: ClassVar[bool] = True
    """Whether there is a convolution before the decoder, and behind the encoder."""
    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_size: int = 64
    latent_channels: int = 4
    norm_groups: int = 32

    @property
    def divisor(self) -> int:
        """Of the image: every level but the innermost doubles."""
        return 1 << (len(self.channels) - 1)

    @property
    def image_size(self) -> int:
        """Pixels on a side."""
        return self.latent_size * self.divisor

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
            use_quant_conv=self.convolves_latent,
            use_post_quant_conv=self.convolves_latent,
        )
        return model


@dataclass(frozen=True, slots=True)
class ShiftedDecoderArchitecture(VaeDecoderArchitecture):
    """That of Stable Diffusion 3: latents of 16 channels around another number than zero."""

    scaling_factor: ClassVar[float] = 1.5305
    shift_factor: ClassVar[float] = 0.0609
    convolves_latent: ClassVar[bool] = False
    latent_channels: int = 16


@dataclass(frozen=True, slots=True)
class TinyDecoderArchitecture:
    """TAESD's decoder (Bohan, 2023): blocks of three convolutions, by level from the latent's side
    outwards."""

    class_name: ClassVar[str] = "AutoencoderTiny"
    scaling_factor: ClassVar[float] = 1.0
    """It takes latents as the U-Net makes them."""
    channels: tuple[int, ...] = (64, 64, 64, 64)
    blocks: tuple[int, ...] = (3, 3, 3, 1)
    latent_size: int = 64
    latent_channels: int = 4

    @property
    def divisor(self) -> int:
        """Of the image: every level but the innermost doubles."""
        return 1 << (len(self.channels) - 1)

    def build(self) -> nn.Module:
        """A whole diffusers AutoencoderTiny (encoder included), initialised by its library."""
        from diffusers import AutoencoderTiny

        model: Any = AutoencoderTiny(
            latent_channels=self.latent_channels,
            encoder_block_out_channels=self.channels,
            decoder_block_out_channels=self.channels,
            num_encoder_blocks=self.blocks[::-1],
            num_decoder_blocks=self.blocks,
        )
        # Its configuration has no size of its own; a preset's decoder says one, as others do.
        model.register_to_config(sample_size=self.latent_size * self.divisor)
        module: nn.Module = model
        return module


@dataclass(frozen=True, slots=True)
class T5Architecture:
    """T5's encoder; the defaults are those of T5 v1.1 XXL (Raffel et al., 2020)."""

    class_name: ClassVar[str] = "T5EncoderModel"
    divisor: ClassVar[int] = 1
    vocabulary: int = 32128
    width: int = 4096
    head_width: int = 64
    feed_forward_width: int = 10240
    layers: int = 24
    heads: int = 64

    def build(self) -> nn.Module:
        """A transformers T5EncoderModel, initialised by its library."""
        from transformers import T5Config, T5EncoderModel

        model: nn.Module = T5EncoderModel(
            T5Config(
                vocab_size=self.vocabulary,
                d_model=self.width,
                d_kv=self.head_width,
                d_ff=self.feed_forward_width,
                num_layers=self.layers,
                num_heads=self.heads,
                feed_forward_proj="gated-gelu",
            )
        )
        return model


@dataclass(frozen=True, slots=True)
class PixArtArchitecture:
    """PixArt's diffusion transformer; the defaults are PixArt-alpha's for 1024 x 1024 pixels (Chen
    et al., 2023)."""

    class_name: ClassVar[str] = "PixArtTransformer2DModel"
    divisor: ClassVar[int] = 2
    """Tokens are of 2 x 2 pixels of the latent."""
    heads: int = 16
    head_width: int = 72
    layers: int = 28
    context_width: int = 4096
    latent_size: int = 128
    latent_channels: int = 4
    told_sizes: bool = True
    """Whether it is told the picture's size and aspect ratio."""

    def build(self) -> nn.Module:
        """A diffusers PixArtTransformer2DModel, initialised by its library."""
        from diffusers import PixArtTransformer2DModel

        model: nn.Module = PixArtTransformer2DModel(
            sample_size=self.latent_size,
            patch_size=self.divisor,
            in_channels=self.latent_channels,
            out_channels=2 * self.latent_channels,  # the noise, and a variance
            num_attention_heads=self.heads,
            attention_head_dim=self.head_width,
            num_layers=self.layers,
            cross_attention_dim=self.heads * self.head_width,
            caption_channels=self.context_width,
            use_additional_conditions=self.told_sizes,
        )
        return model


@dataclass(frozen=True, slots=True)
class Sd3Architecture:
    """Stable Diffusion 3's diffusion transformer; the defaults are SD3 Medium's (Esser et al.,
    2024)."""

    class_name: ClassVar[str] = "SD3Transformer2DModel"
    divisor: ClassVar[int] = 2
    """Tokens are of 2 x 2 pixels of the latent."""
    heads: int = 24
    head_width: int = 64
    layers: int = 24
    context_width: int = 4096
    pooled_width: int = 2048
    latent_size: int = 128
    latent_channels: int = 16
    positions: int = 192
    """Tokens on a side of the largest picture."""

    def build(self) -> nn.Module:
        """A diffusers SD3Transformer2DModel, initialised by its library."""
        from diffusers import SD3Transformer2DModel

        model: nn.Module = SD3Transformer2DModel(
            sample_size=self.latent_size,
            patch_size=self.divisor,
            in_channels=self.latent_channels,
            out_channels=self.latent_channels,
            num_layers=self.layers,
            num_attention_heads=self.heads,
            attention_head_dim=self.head_width,
            caption_projection_dim=self.heads * self.head_width,
            joint_attention_dim=self.context_width,
            pooled_projection_dim=self.pooled_width,
            pos_embed_max_size=self.positions,
        )
        return model
