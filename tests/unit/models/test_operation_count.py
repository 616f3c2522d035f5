"""Counts of multiply-accumulates, against the literature's and against arithmetic by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgefusion.models.architecture_costs import network_cost
from edgefusion.models.architectures import PRESETS
from edgefusion.models.operation_count import count_operations


@pytest.mark.parametrize(
    ("preset", "without_attention", "with_attention"),
    [
        ("sd-v1.4", 338.6, 401.6),
        ("sd-v1.5", 338.6, 401.6),
        ("bk-sdm-base", 223.7, 261.5),
        ("bk-sdm-small", 217.6, 255.4),
        ("bk-sdm-tiny", 205.0, 242.8),
    ],
)
def test_unets_at_64_by_64(preset: str, without_attention: float, with_attention: float) -> None:
    count = network_cost(PRESETS[preset], "unet").operations
    assert round(count.weight_macs / 1e9, 1) == without_attention
    assert round(count.macs / 1e9, 1) == with_attention


@pytest.mark.parametrize(("preset", "side"), [("pixart-alpha", 128), ("pixart-alpha-512", 64)])
def test_a_diffusion_transformer(preset: str, side: int) -> None:
    count = network_cost(PRESETS[preset], "transformer").operations
    width, words, text_width, tokens = 1152, 120, 4096, (side // 2) ** 2
    # Of a block: self-attention, what cross-attention takes and makes, its keys and values, and a
    # feed-forward network four times as wide.
    block = tokens * (4 + 2 + 8) * width**2 + words * 2 * width**2
    patches = tokens * width * (4 * 4 + 4 * 8)
    caption = words * (text_width * width + width**2)
    time = 256 * width + width**2 + 6 * width**2
    sizes = 3 * (256 * width // 3 + (width // 3) ** 2) if side == 128 else 0
    assert count.weight_macs == 28 * block + patches + caption + time + sizes
    assert count.attention_macs == 28 * 2 * tokens * (tokens + words) * width


def test_by_hand() -> None:
    with torch.device("meta"):
        convolution, linear = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(7, 11)
        image, row = torch.zeros(2, 3, 4, 6), torch.zeros(9, 7)
        query = torch.zeros(1, 2, 8, 4)
    assert count_operations(lambda: convolution(image)).weight_macs == 2 * 5 * 4 * 6 * 3 * 9
    assert count_operations(lambda: linear(row)).weight_macs == 9 * 7 * 11
    attention = count_operations(
        lambda: nn.functional.scaled_dot_product_attention(query, query, query)
    )
    assert (attention.weight_macs, attention.attention_macs) == (0, 2 * 2 * 8 * 8 * 4)
