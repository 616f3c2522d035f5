"""Systems made for phones: the blocks and counts that their papers state, as far as they do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from edgefusion.models.architecture_costs import NetworkCost, network_cost
from edgefusion.models.architectures import PRESETS
from edgefusion.models.mobile_unet import MobileTransformer


def built(preset: str) -> Any:
    """The U-Net on the meta device: shapes without memory."""
    with torch.device("meta"):
        return PRESETS[preset].networks["unet"].build()


def cost(preset: str, component: str = "unet") -> NetworkCost:
    return network_cost(PRESETS[preset], component)


def count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(each, kind) for each in module.modules())


# Li et al., "SnapFusion", 2023, Table 3, by the image's division: cross-attention and ResNet blocks
# of Down-1 to Down-3, Mid, and Up-1 to Up-3.
SNAPFUSION_TABLE_3 = {
    "down 8": (0, 2),
    "down 16": (2, 2),
    "down 32": (2, 1),
    "mid": (1, 4),
    "up 32": (6, 2),
    "up 16": (3, 3),
    "up 8": (0, 3),
}


def test_snapfusions_blocks() -> None:
    unet = built("snapfusion")
    *down, innermost = unet.down_blocks
    first, *up = unet.up_blocks
    stages = [*zip(SNAPFUSION_TABLE_3, [*down, None, *up], strict=True)]
    for stage, block in stages:
        blocks = [innermost, unet.mid_block, first] if block is None else [block]
        found = tuple(
            sum(count(each, kind) for each in blocks)
            for kind in (BasicTransformerBlock, ResnetBlock2D)
        )
        assert found == SNAPFUSION_TABLE_3[stage], stage


def test_snapfusions_counts() -> None:
    # Table 1: 848 M. No choice of blocks of Table 3's numbers has as many: with the largest of each
    # kind kept it is 792 M.
    assert cost("snapfusion").parameters == 742_917_764
    assert cost("snapfusion").parameters / 848e6 == pytest.approx(1 - 0.124, abs=0.001)
    # Table 1: 123 and 13 M; section 3.2: "approximately 1/4 size and MACs" of v1.5's decoder.
    assert cost("snapfusion", "text_encoder").parameters == pytest.approx(123e6, rel=0.001)
    decoder, whole = (cost(preset, "vae_decoder") for preset in ("snapfusion", "sd-v1.5"))
    assert decoder.parameters == pytest.approx(13e6, rel=0.05)
    assert decoder.parameters / whole.parameters == pytest.approx(1 / 4, rel=0.01)
    assert decoder.operations.macs / whole.operations.macs == pytest.approx(1 / 4, rel=0.02)


@pytest.mark.parametrize("preset", ["mobilediffusion", "mobilediffusion-softmax"])
def test_mobilediffusions_counts(preset: str) -> None:
    # Zhao et al., "MobileDiffusion", 2023, Table 1: channels, 11 convolutional blocks, 15
    # self-attentions and 18 cross-attentions, 386 M parameters, 182 GMAC.
    unet = built(preset)
    kinds = Counter(
        each.self_attention for each in unet.modules() if isinstance(each, MobileTransformer)
    )
    assert unet.config.block_out_channels == (320, 640, 1024)
    assert count(unet, ResnetBlock2D) == 11
    assert (kinds[True], kinds.total()) == (15, 18)
    assert cost(preset).parameters == 369_588_040
    assert cost(preset).parameters == pytest.approx(386e6, rel=0.05)
    assert cost(preset).operations.macs == pytest.approx(182e9, rel=0.01)
    # Section 4.1: 46.4 % of Stable Diffusion v1.5's operations.
    share = cost(preset).operations.macs / cost("sd-v1.5").operations.macs
    assert share == pytest.approx(0.464, rel=0.02)


def test_mobilediffusion_as_a_whole() -> None:
    decoder = cost("mobilediffusion", "vae_decoder").parameters
    assert decoder == pytest.approx(9.8e6, rel=0.02)
    # Google's announcement (January 2024): 520 M.
    encoder, unet = (cost("mobilediffusion", name) for name in ("text_encoder", "unet"))
    total = encoder.parameters + unet.parameters + decoder
    assert total == pytest.approx(520e6, rel=0.04)


def test_choi_2023() -> None:
    # Choi et al., "Squeezing Large-Scale Diffusion Models for Mobile", 2023: Stable Diffusion v2.1,
    # "more than one billion parameters", 512 x 512 pixels; the guidance is an input (256 wide, as
    # latent-consistency students have it, adds one matrix).
    preset: Any = PRESETS["choi-2023"]
    costs = {name: cost("choi-2023", name) for name in preset.networks}
    assert sum(each.parameters for each in costs.values()) > 1e9
    assert preset.networks["vae_decoder"].image_size == 512
    assert costs["unet"].parameters == cost("sd-v2.1-base").parameters + 256 * 320
    for other in ("text_encoder", "vae_decoder"):
        assert preset.networks[other] == PRESETS["sd-v2.1-base"].networks[other]


@pytest.mark.parametrize("preset", ["snapfusion", "mobilediffusion", "choi-2023"])
def test_small_ones_have_the_same_kinds_of_blocks(preset: str) -> None:
    small = built(f"tiny-test-{preset.removesuffix('-2023')}")
    assert {type(each) for each in small.modules()} == {
        type(each) for each in built(preset).modules()
    }
    assert sum(each.numel() for each in small.parameters()) < 3_000_000
