"""The presets have exactly the parameters that their publications state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgefusion.models.architectures import COMPONENTS, PRESETS, UNetArchitecture
from edgefusion.models.components import VaeDecoder, signature


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def build(preset: str, component: str) -> nn.Module:
    """On the meta device: shapes without memory."""
    with torch.device("meta"):
        module: nn.Module = getattr(PRESETS[preset], component).build()
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
    ],
)
def test_unet_parameters(preset: str, expected: int) -> None:
    assert parameters(build(preset, "unet")) == expected


def test_guidance_embedding_adds_one_matrix() -> None:
    tiny = PRESETS["bk-sdm-tiny"].unet
    student = UNetArchitecture(
        tiny.channels, tiny.down_blocks, tiny.up_blocks, 1, False, guidance_embedding_width=256
    )
    with torch.device("meta"):
        assert parameters(student.build()) == 323_466_884


def test_text_encoder_parameters() -> None:
    assert parameters(build("bk-sdm-tiny", "text_encoder")) == 123_060_480


def test_decoder_parameters_and_image_size() -> None:
    decoder = VaeDecoder(build("bk-sdm-tiny", "vae_decoder"))
    assert parameters(decoder.decoder) == 49_490_179
    assert parameters(decoder.post_quant_conv) == 4 * 4 + 4
    assert PRESETS["bk-sdm-tiny"].vae_decoder.image_size == 512


@pytest.mark.parametrize("preset", list(PRESETS))
def test_components_fit_each_other(preset: str) -> None:
    architecture = PRESETS[preset]
    assert architecture.name == preset
    assert architecture.text_encoder.width == architecture.unet.context_width
    assert architecture.unet.latent_size == architecture.vae_decoder.latent_size
    assert architecture.unet.latent_channels == architecture.vae_decoder.latent_channels


def test_signatures_state_the_published_shapes() -> None:
    shapes = {}
    for component in COMPONENTS:
        module = build("bk-sdm-tiny", component)
        if component == "vae_decoder":
            module = VaeDecoder(module)
        ports = signature(component, module)
        shapes |= {port.name: port.shape for port in ports.inputs}
    assert shapes == {
        "input_ids": (1, 77),
        "sample": (1, 4, 64, 64),
        "timestep": (1,),
        "encoder_hidden_states": (1, 77, 768),
        "latent": (1, 4, 64, 64),
    }


def test_tiny_test_has_the_block_types_of_bk_sdm_tiny() -> None:
    small, real = PRESETS["tiny-test"].unet, PRESETS["bk-sdm-tiny"].unet
    assert (small.down_blocks, small.up_blocks) == (real.down_blocks, real.up_blocks)
    assert (small.layers_per_block, small.has_mid_block) == (1, False)
    assert parameters(build("tiny-test", "unet")) < 2_000_000
