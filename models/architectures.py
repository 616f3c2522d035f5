"""The presets: shapes of the networks of text-to-image pipelines, and how to build them.

Values only; torch, diffusers and transformers are imported when a network is built, because that
import takes seconds and most of the command line needs the shapes alone. Sources: the
configurations published with Stable Diffusion v1.5, v2.1 and XL, BK-SDM (Kim et al., 2023) and
SSD-1B, whose parameter counts tests/unit/models/test_architectures.py asserts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from edgefusion.models.families.family import Part


class NetworkArchitecture(Protocol):
    """The shape of one network; hashable."""

    def build(self) -> nn.Module:
        """The library's module, initialised by its library."""
        ...


@dataclass(frozen=True, slots=True)
class TextEncoderArchitecture:
    """A CLIP text transformer; the defaults are ViT-L/14's."""

    class_name: ClassVar[str] = "CLIPTextModel"
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
    layers_per_block: int
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
        model.register_to_config(sample_size=self.latent_size << (len(self.channels) - 1))
        module: nn.Module = model
        return module


@dataclass(frozen=True, slots=True)
class Architecture:
    """The networks of one text-to-image pipeline, by component, in pipeline order."""

    name: str
    networks: Mapping[str, NetworkArchitecture] = field(hash=False)
    family: str = "stable-diffusion"
    stress: bool = False
    """Random weights that are hard to quantize: models.random_weights.STRESS_SCHEME."""
    vocabulary: int = 49408
    """Tokens that its text encoders know."""

    def part(self, part: Part) -> Part:
        """A family's ``part`` with the kind of network that it has here."""
        class_name = getattr(self.networks[part.component], "class_name", None)
        return part.of_class(class_name) or part

    def to_json(self) -> dict[str, Any]:
        """All that decides its networks."""
        networks = {name: asdict(network) for name, network in self.networks.items()}  # type: ignore[call-overload]
        return {"name": self.name, "stress": self.stress, **networks}


_CLIP_L = TextEncoderArchitecture()
_CLIP_H = TextEncoderArchitecture(
    width=1024, feed_forward_width=4096, layers=23, heads=16, activation="gelu"
)
_CLIP_BIG_G = ProjectedTextEncoderArchitecture(
    width=1280, feed_forward_width=5120, layers=32, heads=20, activation="gelu"
)

_SD_CHANNELS = (320, 640, 1280, 1280)
_SD_DOWN = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
_SD_UP = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
_TINY_DOWN = ("CrossAttnDownBlock2D",) * 3
_TINY_UP = ("CrossAttnUpBlock2D",) * 3

_SD = UNetArchitecture(_SD_CHANNELS, _SD_DOWN, _SD_UP, 2, True)
_TINY = UNetArchitecture(_SD_CHANNELS[:3], _TINY_DOWN, _TINY_UP, 1, False)
_SD2 = replace(_SD, context_width=1024, heads=(5, 10, 20, 20), linear_projections=True)
_SDXL = UNetArchitecture(
    channels=_SD_CHANNELS[:3],
    down_blocks=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_blocks=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    layers_per_block=2,
    has_mid_block=True,
    latent_size=128,
    context_width=2048,
    heads=(5, 10, 20),
    linear_projections=True,
    transformer_layers=(1, 2, 10),
    pooled_width=1280,
)


def _pipeline(
    name: str,
    unet: UNetArchitecture,
    text_encoder: TextEncoderArchitecture = _CLIP_L,
    vae_decoder: VaeDecoderArchitecture | None = None,
) -> Architecture:
    """Of Stable Diffusion's family; its decoder's latent is as large as the U-Net's."""
    decoder = vae_decoder or VaeDecoderArchitecture(latent_size=unet.latent_size)
    networks: dict[str, NetworkArchitecture] = {
        "text_encoder": text_encoder,
        "unet": unet,
        "vae_decoder": decoder,
    }
    return Architecture(name, MappingProxyType(networks), vocabulary=text_encoder.vocabulary)


def _xl_pipeline(
    name: str,
    unet: UNetArchitecture,
    first: TextEncoderArchitecture = _CLIP_L,
    second: ProjectedTextEncoderArchitecture = _CLIP_BIG_G,
    vae_decoder: VaeDecoderArchitecture | None = None,
) -> Architecture:
    """Of Stable Diffusion XL's family."""
    networks: dict[str, NetworkArchitecture] = {
        "text_encoder": first,
        "text_encoder_2": second,
        "unet": unet,
        "vae_decoder": vae_decoder or VaeDecoderArchitecture(latent_size=unet.latent_size),
    }
    family = "stable-diffusion-xl"
    return Architecture(name, MappingProxyType(networks), family, vocabulary=first.vocabulary)


_TEST_TEXT = TextEncoderArchitecture(
    vocabulary=512, width=32, feed_forward_width=128, layers=2, heads=2
)
_TEST_DECODER = VaeDecoderArchitecture(
    channels=(32, 32, 64, 64), layers_per_block=1, latent_size=16, norm_groups=8
)

_ARCHITECTURES = (
    _pipeline("sd-v1.4", _SD),
    _pipeline("sd-v1.5", _SD),
    _pipeline("sd-v2.1-base", _SD2, _CLIP_H),
    _pipeline("sd-v2.1", replace(_SD2, latent_size=96), _CLIP_H),
    # Sauer et al., "Adversarial Diffusion Distillation", 2023: the networks of their teachers.
    _pipeline("sd-turbo", _SD2, _CLIP_H),
    # Xu et al., "UFOGen", 2023: Stable Diffusion v1.5's networks, in one step.
    _pipeline("ufogen", _SD),
    _pipeline("bk-sdm-base", replace(_SD, layers_per_block=1)),
    _pipeline("bk-sdm-small", replace(_SD, layers_per_block=1, has_mid_block=False)),
    _pipeline("bk-sdm-tiny", _TINY),
    # What latent-consistency distillation makes of BK-SDM-Tiny: EdgeFusion's U-Net.
    _pipeline("bk-sdm-tiny-lcm", replace(_TINY, guidance_embedding_width=256)),
    _xl_pipeline("sdxl", _SDXL),
    _xl_pipeline("sdxl-turbo", replace(_SDXL, latent_size=64)),
    # Gupta et al., "Progressive Knowledge Distillation Of Stable Diffusion XL", 2024.
    _xl_pipeline(
        "ssd-1b",
        replace(
            _SDXL,
            mid_attention=False,
            transformer_layers=(1, (2, 2), (4, 4)),
            transformer_layers_up=((4, 4, 10), (2, 1, 1), 1),
        ),
    ),
    # The block types of BK-SDM-Tiny at a size that exports in about a second.
    _pipeline(
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
        _TEST_TEXT,
        _TEST_DECODER,
    ),
    # Those of Stable Diffusion XL.
    _xl_pipeline(
        "tiny-test-xl",
        replace(
            _SDXL,
            channels=(32, 64, 64),
            layers_per_block=1,
            latent_size=16,
            context_width=64,
            heads=(1, 2, 2),
            norm_groups=8,
            transformer_layers=(1, 1, 2),
            pooled_width=32,
        ),
        _TEST_TEXT,
        ProjectedTextEncoderArchitecture(
            vocabulary=512, width=32, feed_forward_width=128, layers=2, heads=2
        ),
        _TEST_DECODER,
    ),
)

_STRESSED = ("bk-sdm-tiny", "tiny-test")

_SMALL_DECODED = ("bk-sdm-tiny", "sd-turbo", "sdxl-turbo", "tiny-test")
"""With TAESD's decoder, as users who want few milliseconds take it."""


def _small_decoded(architecture: Architecture) -> Architecture:
    decoder: Any = architecture.networks["vae_decoder"]
    tiny = TinyDecoderArchitecture(latent_size=decoder.latent_size)
    networks = MappingProxyType({**architecture.networks, "vae_decoder": tiny})
    return replace(architecture, name=f"{architecture.name}-taesd", networks=networks)


PRESETS: Mapping[str, Architecture] = MappingProxyType(
    {architecture.name: architecture for architecture in _ARCHITECTURES}
    | {
        f"{architecture.name}-taesd": _small_decoded(architecture)
        for architecture in _ARCHITECTURES
        if architecture.name in _SMALL_DECODED
    }
    | {
        f"{architecture.name}-stress": replace(
            architecture, name=f"{architecture.name}-stress", stress=True
        )
        for architecture in _ARCHITECTURES
        if architecture.name in _STRESSED
    }
)
