"""The presets have exactly the parameters that their publications state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from edgefusion.models.architectures import PRESETS
from edgefusion.models.families.registry import FAMILIES, family_named
from edgefusion.models.graph_modules import VaeDecoder
from edgefusion.models.network_architectures import UNetArchitecture
from edgefusion.models.source import resolve_source
from edgefusion.models.strength import starting_from_picture


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def build(preset: str, component: str) -> nn.Module:
    """On the meta device: shapes without memory."""
    with torch.device("meta"):
        module: nn.Module = PRESETS[preset].networks[component].build()
    return module


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("sd-v1.4", 859_520_964),
        ("sd-v1.5", 859_520_964),
        ("bk-sdm-base", 579_384_964),
        ("bk-sdm-small", 482_346_884),
        ("bk-sdm-tiny", 323_384_964),
        ("bk-sdm-tiny-lcm", 323_466_884),
        ("sd-v2.1-base", 865_910_724),
        ("sd-v2.1", 865_910_724),
        ("sd-turbo", 865_910_724),
        ("ufogen", 859_520_964),
        ("sdxl", 2_567_463_684),
        ("sdxl-turbo", 2_567_463_684),
        ("ssd-1b", 1_331_334_404),
    ],
)
def test_unet_parameters(preset: str, expected: int) -> None:
    assert parameters(build(preset, "unet")) == expected


@pytest.mark.parametrize(
    ("preset", "expected"),
    [  # PixArt-alpha has 0.6 B (Chen et al., 2023, Table 2)
        ("pixart-alpha", 611_349_152),
        ("pixart-alpha-512", 610_856_096),
        ("pixart-delta", 611_349_152),
        ("sd3-medium", 2_028_328_000),  # 2 B (Esser et al., 2024)
    ],
)
def test_transformer_parameters(preset: str, expected: int) -> None:
    assert parameters(build(preset, "transformer")) == expected


def test_guidance_embedding_adds_one_matrix() -> None:
    tiny: Any = PRESETS["bk-sdm-tiny"].networks["unet"]
    student = UNetArchitecture(
        tiny.channels, tiny.down_blocks, tiny.up_blocks, 1, False, guidance_embedding_width=256
    )
    with torch.device("meta"):
        assert parameters(student.build()) == 323_466_884


@pytest.mark.parametrize(
    ("preset", "component", "expected"),
    [
        ("bk-sdm-tiny", "text_encoder", 123_060_480),
        ("sd-v2.1", "text_encoder", 340_387_840),
        ("sdxl", "text_encoder", 123_060_480),
        ("sdxl", "text_encoder_2", 694_659_840),
        ("pixart-alpha", "text_encoder", 4_762_310_656),  # T5 v1.1 XXL's encoder
        ("sd3-medium", "text_encoder", 123_650_304),
        ("sd3-medium", "text_encoder_2", 694_659_840),
        ("sd3-medium", "text_encoder_3", 4_762_310_656),
    ],
)
def test_text_encoder_parameters(preset: str, component: str, expected: int) -> None:
    assert parameters(build(preset, component)) == expected


def test_taesds_decoder() -> None:
    # https://github.com/madebyollin/taesd: each half has 1.22 M parameters.
    assert parameters(build("sd-turbo-taesd", "vae_decoder").decoder) == 1_222_531


def test_decoder_parameters_and_image_size() -> None:
    decoder = VaeDecoder(build("bk-sdm-tiny", "vae_decoder"))
    assert parameters(decoder.decoder) == 49_490_179
    assert parameters(decoder.post_quant_conv) == 4 * 4 + 4
    networks: Any = PRESETS["bk-sdm-tiny"].networks
    assert networks["vae_decoder"].image_size == 512


@pytest.mark.parametrize("preset", list(PRESETS))
def test_components_fit_each_other(preset: str) -> None:
    architecture = PRESETS[preset]
    assert architecture.name == preset
    assert tuple(architecture.networks) == family_named(architecture.family).components
    networks: Any = architecture.networks
    denoiser = networks[family_named(architecture.family).denoiser.component]
    decoder = networks["vae_decoder"]
    encoders = [networks[name] for name in networks if name.startswith("text_encoder")]
    if architecture.family.startswith("stable-diffusion-3"):
        clip, behind = encoders[:2], encoders[2:]
        assert {encoder.width for encoder in behind} <= {denoiser.context_width}
        assert sum(encoder.width for encoder in clip) <= denoiser.context_width
        assert sum(encoder.width for encoder in clip) == denoiser.pooled_width
    else:
        assert sum(encoder.width for encoder in encoders) == denoiser.context_width
        assert getattr(denoiser, "pooled_width", None) in (None, encoders[-1].width)
    assert denoiser.latent_size == decoder.latent_size
    assert denoiser.latent_channels == decoder.latent_channels


def test_every_family_of_prompts_alone_has_a_preset() -> None:
    without = {family.name for family in FAMILIES if not family.pictures.given}
    assert {each.family for each in PRESETS.values()} == without


@pytest.mark.parametrize("preset", ["tiny-test", "sdxl", "sd-turbo-taesd"])
def test_presets_start_from_pictures_with_the_networks_that_they_have(preset: str) -> None:
    source = resolve_source(preset)
    taken = starting_from_picture(source)
    assert taken.components == taken.family.components
    assert set(taken.components) - set(source.components) == {"vae_encoder"}
    assert taken.digest != source.digest
    image = taken.part("vae_encoder").kind.class_name
    assert image == source.part("vae_decoder").kind.class_name


BK_SDM = {
    "input_ids": (1, 77),
    "hidden_states": (1, 77, 768),
    "sample": (1, 4, 64, 64),
    "timestep": (1,),
    "encoder_hidden_states": (1, 77, 768),
    "noise_pred": (1, 4, 64, 64),
    "latent": (1, 4, 64, 64),
    "image": (1, 3, 512, 512),
}
SDXL = BK_SDM | {
    "hidden_states": (1, 77, 1280),
    "text_embeds": (1, 1280),
    "time_ids": (1, 6),
    "sample": (1, 4, 128, 128),
    "encoder_hidden_states": (1, 77, 2048),
    "noise_pred": (1, 4, 128, 128),
    "latent": (1, 4, 128, 128),
    "image": (1, 3, 1024, 1024),
}


PIXART = {
    "input_ids": (1, 120),
    "hidden_states": (1, 120, 4096),
    "attention_mask": (1, 120),
    "sample": (1, 4, 128, 128),
    "timestep": (1,),
    "encoder_hidden_states": (1, 120, 4096),
    "encoder_attention_mask": (1, 1, 120),
    "noise_pred": (1, 4, 128, 128),
    "latent": (1, 4, 128, 128),
    "image": (1, 3, 1024, 1024),
}


@pytest.mark.parametrize(
    ("preset", "expected"), [("bk-sdm-tiny", BK_SDM), ("sdxl", SDXL), ("pixart-alpha", PIXART)]
)
def test_signatures_state_the_published_shapes(
    preset: str, expected: dict[str, tuple[int, ...]]
) -> None:
    shapes = {}
    family = family_named(PRESETS[preset].family)
    for part in family.parts:
        module: Any = part.kind.part(build(preset, part.component))
        ports = part.kind.signature(module.config, family.usual_sizes)
        shapes |= {port.name: port.shape for port in (*ports.inputs, *ports.outputs)}
    assert shapes == expected


def test_tiny_test_has_the_block_types_of_bk_sdm_tiny() -> None:
    small: Any
    real: Any
    small, real = PRESETS["tiny-test"].networks["unet"], PRESETS["bk-sdm-tiny"].networks["unet"]
    assert (small.down_blocks, small.up_blocks) == (real.down_blocks, real.up_blocks)
    assert (small.layers_per_block, small.has_mid_block) == (1, False)
    assert parameters(build("tiny-test", "unet")) < 2_000_000
