"""MobileDiffusion's U-Net: torch's and diffusers' values, its kind, and folders of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import FeedForward

from edgefusion.models.families.registry import STABLE_DIFFUSION, family_named
from edgefusion.models.mobile_architecture import RELU, SOFTMAX, MobileUNetArchitecture
from edgefusion.models.mobile_unet import SharedKeyValueAttention, _separable
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import resolve_source
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.progress import silent
from tests.model_folders import pipeline_folder

SMALL = MobileUNetArchitecture(
    channels=(8, 16, 16),
    heads=(2, 2, 4),
    middle_layers=1,
    latent_size=8,
    latent_channels=4,
    context_width=8,
    norm_groups=2,
)
INPUTS = (torch.randn(1, 4, 8, 8), torch.tensor([499]), torch.randn(1, 5, 8))


def test_with_stable_diffusions_choices_it_is_diffusers() -> None:
    """Softmax, plain convolutions, self-attention at all levels and no transformers between: then
    diffusers' U-Net with two equal projections, and swish, computes the same."""
    shape = replace(
        SMALL,
        attention=("full",) * 3,
        heads=(2, 2, 2),
        separable_convolutions=(False,) * 3,
        middle_layers=0,
        feed_forward_expansion=8,
        attention_function=SOFTMAX,
    )
    torch.manual_seed(0)
    ours: Any = shape.build().eval()
    theirs: Any = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=shape.channels,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        mid_block_type=None,
        layers_per_block=shape.layers_per_block,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=2,
    ).eval()
    for name, module in list(theirs.named_modules()):
        if name.endswith(".ff"):
            width = module.net[2].out_features
            swish = FeedForward(width, activation_fn="swiglu")
            theirs.set_submodule(name, swish)
    theirs.load_state_dict({name: _ours(ours, name) for name in theirs.state_dict()})
    with torch.no_grad():
        made, expected = ours(*INPUTS), theirs(*INPUTS, return_dict=False)[0]
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


def _ours(ours: Any, name: str) -> torch.Tensor:
    """The weight that diffusers calls ``name``."""
    parts = name.split(".")
    if parts[0] in ("down_blocks", "up_blocks"):
        way, level, of, index, *rest = parts
        side = way.removesuffix("_blocks")
        if of.endswith("samplers"):
            name = ".".join([of, level, *rest])
        else:
            name = ".".join([side, level, of, index, *rest])
    name = name.replace("transformer_blocks.0.", "").replace("to_out.0", "to_out")
    name = name.replace("to_k", "to_kv").replace("to_v.", "to_kv.")
    made: torch.Tensor = ours.state_dict()[name]
    return made


def test_relu_attention_by_hand() -> None:
    torch.manual_seed(0)
    attention = SharedKeyValueAttention(6, 4, 2, RELU)
    states, context = torch.randn(1, 3, 6), torch.randn(1, 5, 4)
    with torch.no_grad():
        made = attention(states, context).numpy()
        q, kv = attention.to_q(states)[0].numpy(), attention.to_kv(context)[0].numpy()
        heads = []
        for h in (slice(0, 3), slice(3, 6)):
            weights = np.maximum(q[:, h] @ kv[:, h].T / np.sqrt(np.float32(3)), 0) / 5
            heads.append(weights @ kv[:, h])
        expected = attention.to_out(torch.from_numpy(np.concatenate(heads, 1)))
    np.testing.assert_allclose(made[0], expected, atol=1e-6)


def test_a_separable_convolution_is_one_of_low_rank() -> None:
    torch.manual_seed(0)
    depth, point = separable = _separable(3, 5)
    kernel = point.weight * depth.weight.transpose(0, 1)
    image = torch.randn(1, 3, 6, 7)
    dense = torch.nn.functional.conv2d(image, kernel, point.bias, padding=1)
    torch.testing.assert_close(separable(image), dense)
    assert kernel.shape == (5, 3, 3, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline of Stable Diffusion's classes but for its U-Net."""
    made = pipeline_folder(tmp_path)
    for file in (made / "unet").iterdir():
        file.unlink()
    torch.manual_seed(1)
    unet: Any = SMALL.build()
    unet.save_pretrained(made / "unet")
    _change(made / "model_index.json", {"unet": ["edgefusion", "MobileUNetModel"]})
    return made


def _change(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_of_it(folder: Path) -> None:
    source = checked_source(resolve_source(str(folder)), None, silent)
    loaded: Any = source.load("unet")
    torch.manual_seed(1)
    saved = SMALL.build().eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(*INPUTS), saved(*INPUTS))


@pytest.mark.parametrize("family", ["controlnet", "inpainting"])
def test_families_whose_denoiser_has_other_inputs_do_not_take_it(family: str) -> None:
    assert STABLE_DIFFUSION.denoiser.of_class("MobileUNetModel") is not None
    other = family_named(f"stable-diffusion-{family}")
    assert other.denoiser.of_class("MobileUNetModel") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention", ["none", "cross"]),
        ("attention", ["none", "cross", "self"]),
        ("attention_function", "sigmoid"),
        ("attention_heads", 8),
        ("block_out_channels", 8),
        ("feed_forward_expansion", 3),
        ("in_channels", 9),
        ("sample_size", "large"),
    ],
)
def test_configurations_that_do_not_fit(key: str, value: object, folder: Path) -> None:
    _change(folder / "unet" / "config.json", {key: value})
    with pytest.raises(InputError, match=key):
        checked_source(resolve_source(str(folder)), None, silent)
