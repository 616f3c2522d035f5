"""The presets: networks of text-to-image pipelines, at published shapes.

Sources: the configurations published with Stable Diffusion v1.5, v2.1 and XL, BK-SDM (Kim et al.,
2023), SSD-1B, PixArt-alpha and Stable Diffusion 3 Medium, whose parameter counts
tests/unit/models/test_architectures.py asserts; of systems made for phones, their papers, as
test_phone_presets.py beside it says.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgefusion.models.mobile_architecture import SOFTMAX, MobileUNetArchitecture
from edgefusion.models.network_architectures import (
    NetworkArchitecture,
    PixArtArchitecture,
    ProjectedTextEncoderArchitecture,
    Sd3Architecture,
    ShiftedDecoderArchitecture,
    T5Architecture,
    TextEncoderArchitecture,
    TinyDecoderArchitecture,
    UNetArchitecture,
    VaeDecoderArchitecture,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgefusion.models.families.family import Family, Part


@dataclass(frozen=True, slots=True)
class Architecture:
    """The networks of one text-to-image pipeline, by component, in pipeline order."""

    name: str
    networks: Mapping[str, NetworkArchitecture] = field(hash=False)
    family: str = "stable-diffusion"
    stress: bool = False
    """Random weights that are hard to quantize: models.random_weights.STRESS_SCHEME."""
    steps: int | None = None
    """Denoising steps of what was made for so many; None for as its pipeline usually takes."""

    def part(self, part: Part) -> Part:
        """A family's ``part`` with the kind of network that it has here."""
        class_name = getattr(self.networks[part.component], "class_name", None)
        return part.of_class(class_name) or part

    def of_family(self, family: Family) -> Architecture:
        """The networks that ``family`` has parts for; of parts of one folder, in one."""
        folders = {part.folder: self.networks.get(part.component) for part in family.parts}
        networks = {part.component: folders[part.folder] for part in family.parts}
        made = MappingProxyType({name: each for name, each in networks.items() if each is not None})
        return replace(self, networks=made, family=family.name)

    def to_json(self) -> dict[str, Any]:
        """All that decides its networks."""
        networks = {name: asdict(network) for name, network in self.networks.items()}  # type: ignore[call-overload]
        return {"name": self.name, "stress": self.stress, **networks}


_CLIP_L = TextEncoderArchitecture()
_CLIP_H = TextEncoderArchitecture(
    width=1024, feed_forward_width=4096, layers=23, heads=16, activation="gelu"
)
_CLIP_L_PROJECTED = ProjectedTextEncoderArchitecture()
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
_SNAPFUSION = UNetArchitecture(
    channels=_SD_CHANNELS,
    down_blocks=("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
    up_blocks=("UpBlock2D", *("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
    layers_per_block=(2, 2, 1, 1),
    has_mid_block=True,
    mid_attention=False,
    transformer_layers=(1, 1, 2, 1),
    transformer_layers_up=(1, 3, 1, 1),
)
"""The blocks at each resolution of Table 3 of Li et al., "SnapFusion", 2023. It leaves open which
of Stable Diffusion's blocks these are, and how more transformers than residual blocks lie: here
they are layers of one transformer, and 8 x 8's lies on the way down."""
_GUIDED_SD2 = replace(_SD2, guidance_embedding_width=256)
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
    unet: UNetArchitecture | MobileUNetArchitecture,
    text_encoder: TextEncoderArchitecture = _CLIP_L,
    vae_decoder: VaeDecoderArchitecture | None = None,
    steps: int | None = None,
) -> Architecture:
    """Of Stable Diffusion's family; its decoder's latent is as large as the U-Net's."""
    decoder = vae_decoder or VaeDecoderArchitecture(latent_size=unet.latent_size)
    networks: dict[str, NetworkArchitecture] = {
        "text_encoder": text_encoder,
        "unet": unet,
        "vae_decoder": decoder,
    }
    return Architecture(name, MappingProxyType(networks), steps=steps)


def _pixart_pipeline(
    name: str,
    transformer: PixArtArchitecture,
    text_encoder: T5Architecture | None = None,
    vae_decoder: VaeDecoderArchitecture | None = None,
    steps: int | None = None,
) -> Architecture:
    """Of PixArt's family."""
    encoder = text_encoder or T5Architecture()
    size = transformer.latent_size
    networks: dict[str, NetworkArchitecture] = {
        "text_encoder": encoder,
        "transformer": transformer,
        "vae_decoder": vae_decoder or VaeDecoderArchitecture(latent_size=size),
    }
    return Architecture(name, MappingProxyType(networks), "pixart", steps=steps)


def _sd3_pipelines(
    name: str,
    transformer: Sd3Architecture,
    clip: Sequence[ProjectedTextEncoderArchitecture] = (_CLIP_L_PROJECTED, _CLIP_BIG_G),
    t5: T5Architecture | None = None,
    vae_decoder: VaeDecoderArchitecture | None = None,
) -> tuple[Architecture, Architecture]:
    """Of Stable Diffusion 3's families: with T5, and without."""
    decoder = vae_decoder or ShiftedDecoderArchitecture(latent_size=transformer.latent_size)
    before: dict[str, NetworkArchitecture] = {"text_encoder": clip[0], "text_encoder_2": clip[1]}
    behind: dict[str, NetworkArchitecture] = {"transformer": transformer, "vae_decoder": decoder}
    third: dict[str, NetworkArchitecture] = {"text_encoder_3": t5 or T5Architecture()}
    family, without = "stable-diffusion-3", "without-t5"
    return (
        Architecture(name, MappingProxyType({**before, **third, **behind}), family),
        Architecture(
            f"{name}-{without}", MappingProxyType({**before, **behind}), f"{family}-{without}"
        ),
    )


def _xl_pipeline(
    name: str,
    unet: UNetArchitecture,
    first: TextEncoderArchitecture = _CLIP_L,
    second: ProjectedTextEncoderArchitecture = _CLIP_BIG_G,
    vae_decoder: VaeDecoderArchitecture | None = None,
    steps: int | None = None,
) -> Architecture:
    """Of Stable Diffusion XL's family."""
    networks: dict[str, NetworkArchitecture] = {
        "text_encoder": first,
        "text_encoder_2": second,
        "unet": unet,
        "vae_decoder": vae_decoder or VaeDecoderArchitecture(latent_size=unet.latent_size),
    }
    family = "stable-diffusion-xl"
    return Architecture(name, MappingProxyType(networks), family, steps=steps)


_HALF_DECODER = VaeDecoderArchitecture(channels=(64, 128, 256, 256))
_MOBILE_DECODER = replace(_HALF_DECODER, layers_per_block=1, latent_channels=8)

_TEST_TEXT = TextEncoderArchitecture(
    vocabulary=512, width=32, feed_forward_width=128, layers=2, heads=2
)
_TEST_PROJECTED = ProjectedTextEncoderArchitecture(
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
    _pipeline("sd-turbo", _SD2, _CLIP_H, steps=1),
    # Xu et al., "UFOGen", 2023: Stable Diffusion v1.5's networks, in one step.
    _pipeline("ufogen", _SD, steps=1),
    _pipeline("bk-sdm-base", replace(_SD, layers_per_block=1)),
    _pipeline("bk-sdm-small", replace(_SD, layers_per_block=1, has_mid_block=False)),
    _pipeline("bk-sdm-tiny", _TINY),
    # What latent-consistency distillation makes of BK-SDM-Tiny: EdgeFusion's U-Net.
    _pipeline("bk-sdm-tiny-lcm", replace(_TINY, guidance_embedding_width=256)),
    # Li et al., "SnapFusion", 2023: v1.5 with its Table 3's blocks; a decoder of half the channels.
    _pipeline("snapfusion", _SNAPFUSION, vae_decoder=_HALF_DECODER, steps=8),
    # Zhao et al., "MobileDiffusion", 2023: the latent has 8 channels; the decoder is narrower and
    # shallower than v1.5's, by how much is chosen here.
    _pipeline("mobilediffusion", MobileUNetArchitecture(), vae_decoder=_MOBILE_DECODER, steps=1),
    # The same before its attention was fine-tuned.
    _pipeline(
        "mobilediffusion-softmax",
        MobileUNetArchitecture(attention_function=SOFTMAX),
        vae_decoder=_MOBILE_DECODER,
        steps=1,
    ),
    # Choi et al., "Squeezing Large-Scale Diffusion Models for Mobile", 2023: v2.1 at 512 x 512
    # pixels, whose U-Net takes the guidance as an input. What was pruned is not known: nothing is.
    _pipeline("choi-2023", _GUIDED_SD2, _CLIP_H, steps=20),
    _xl_pipeline("sdxl", _SDXL),
    _xl_pipeline("sdxl-turbo", replace(_SDXL, latent_size=64), steps=1),
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
    _pixart_pipeline("pixart-alpha", PixArtArchitecture()),
    _pixart_pipeline("pixart-alpha-512", PixArtArchitecture(latent_size=64, told_sizes=False)),
    # Chen et al., "PixArt-delta", 2024: a latent-consistency student of the same shape.
    _pixart_pipeline("pixart-delta", PixArtArchitecture(), steps=4),
    *_sd3_pipelines("sd3-medium", Sd3Architecture()),
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
    # Those of the systems made for phones.
    _pipeline(
        "tiny-test-snapfusion",
        replace(
            _SNAPFUSION,
            channels=(32, 32, 64, 64),
            latent_size=16,
            context_width=32,
            heads=2,
            norm_groups=8,
        ),
        _TEST_TEXT,
        _TEST_DECODER,
    ),
    _pipeline(
        "tiny-test-mobilediffusion",
        MobileUNetArchitecture(
            channels=(32, 32, 64),
            heads=(2, 2, 2),
            middle_layers=2,
            latent_size=16,
            context_width=32,
            norm_groups=8,
        ),
        _TEST_TEXT,
        replace(_TEST_DECODER, latent_channels=8),
    ),
    _pipeline(
        "tiny-test-choi",
        replace(
            _GUIDED_SD2,
            channels=(32, 32, 64, 64),
            latent_size=16,
            context_width=32,
            heads=(1, 1, 2, 2),
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
        _TEST_PROJECTED,
        _TEST_DECODER,
    ),
    # Those of PixArt.
    _pixart_pipeline(
        "tiny-test-pixart",
        PixArtArchitecture(heads=2, head_width=36, layers=2, context_width=32, latent_size=16),
        T5Architecture(
            vocabulary=512, width=32, head_width=16, feed_forward_width=64, layers=2, heads=2
        ),
        _TEST_DECODER,
    ),
    # Those of Stable Diffusion 3.
    *_sd3_pipelines(
        "tiny-test-sd3",
        Sd3Architecture(
            heads=2,
            head_width=32,
            layers=2,
            context_width=96,
            pooled_width=64,
            latent_size=16,
            latent_channels=4,
            positions=16,
        ),
        (_TEST_PROJECTED, _TEST_PROJECTED),
        T5Architecture(
            vocabulary=512, width=96, head_width=16, feed_forward_width=64, layers=1, heads=2
        ),
        ShiftedDecoderArchitecture(
            channels=(32, 32, 64, 64),
            layers_per_block=1,
            latent_size=16,
            latent_channels=4,
            norm_groups=8,
        ),
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
