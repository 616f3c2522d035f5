"""Weights from a seed, for presets: every tensor distinct, activations of ordinary size.

The libraries' own initialisation leaves biases zero and norm scales one; exporters then merge the
equal tensors, and tests with them cannot see a bias that went missing. Here each tensor is drawn
by itself, from a generator keyed by the seed and its name, so that a tensor's values depend
neither on the order of drawing nor on which components are asked for.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import torch
from diffusers.models.attention import BasicTransformerBlock
from transformers.models.t5.modeling_t5 import T5Attention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

SCHEME = "normal; matrices 1/sqrt(fan-in), biases 0.02, norm scales 1 + 0.02, embeddings 0.05"
STRESS_SCHEME = (
    "U-Net: matrices Student t(4), channels lognormal 0.5, norm scales 12x in 2 % and the columns "
    "of attention and feed-forward that read them 1/12"
)
"""Normal weights flatter any quantizer. Trained ones have heavy tails, channels of different size
and a few channels with large activations, whose weights are small in turn (Xiao et al.,
"SmoothQuant", 2023): the U-Net of presets called ``-stress`` has all of this."""

_SMALL = 0.02
_EMBEDDING = 0.05


class RandomWeights:
    """Seeded draws in place of a module's weights: values by parameter name, float32 on the CPU.

    The same seed, component and parameter name give the same values. ``stress`` makes a U-Net hard
    to quantize: STRESS_SCHEME.
    """

    def __init__(
        self, module: nn.Module, component: str, seed: int, *, stress: bool = False
    ) -> None:
        """``module`` may lie on the meta device: shapes and kinds of layers are read of it."""
        self._key = f"{seed}/{component}"
        self._shapes = {name: each.shape for name, each in module.named_parameters()}
        self._embeddings = {
            f"{name}.weight"
            for name, child in module.named_modules()
            if isinstance(child, torch.nn.Embedding)
        }
        # T5 does not scale scores: its queries are small instead.
        self._depths = {
            f"{name}.q.weight": child.key_value_proj_dim
            for name, child in module.named_modules()
            if isinstance(child, T5Attention)
        }
        self._stressed = stress and component == "unet"
        self._norms = _norms_of_readers(module) if self._stressed else {}

    def __call__(self, name: str) -> torch.Tensor:
        """The values of one parameter."""
        key = hashlib.sha256(f"{self._key}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:7], "little"))
        values = torch.empty(self._shapes[name], dtype=torch.float32)
        if values.dim() >= 2:
            fan_in = values[0].numel() * self._depths.get(name, 1)
            deviation = _EMBEDDING if name in self._embeddings else 1.0 / math.sqrt(fan_in)
            values.normal_(0.0, deviation, generator=generator)
        else:
            mean = 1.0 if name.endswith("weight") else 0.0
            values.normal_(mean, _SMALL, generator=generator)
        if self._stressed and name not in self._embeddings:
            values = _stressed(values, name, generator)
        if norm := self._norms.get(name):
            # Large activations meet small weights, as in trained networks. Otherwise logits of
            # attention would grow by up to the square of an outlier, and its softmax jump between
            # single keys: noise 60 dB below the input of ``tiny-test`` would be 20 dB below its
            # output in FP32 already, which measures no quantizer. So it is 59 dB.
            values[:, self(norm).abs() > _OUTLIER / 2] /= _OUTLIER
        return values


_CHANNEL_SPREAD = 0.5
_OUTLIER_CHANNELS = 0.02
_OUTLIER = 12.0

_NORM_READERS = {  # of a BasicTransformerBlock
    "norm1": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "norm2": ("attn2.to_q",),
    "norm3": ("ff.net.0.proj",),
}


def _stressed(values: torch.Tensor, name: str, generator: torch.Generator) -> torch.Tensor:
    """Heavy tails and unequal channels for matrices, a few large channels for norm scales."""
    if values.dim() >= 2:
        # Student t with 4 degrees of freedom: a normal over the root of a chi-square / 4; its
        # variance is 2.
        squares = torch.empty((4, *values.shape)).normal_(generator=generator).square_()
        tailed = values / squares.mean(dim=0).sqrt() / math.sqrt(2)
        spread = torch.empty(values.shape[0]).normal_(0.0, _CHANNEL_SPREAD, generator=generator)
        factors = torch.exp(spread - _CHANNEL_SPREAD**2)
        return tailed * factors.reshape(-1, *[1] * (values.dim() - 1))
    if name.endswith("weight"):
        count = max(1, round(_OUTLIER_CHANNELS * values.numel()))
        chosen = torch.randperm(values.numel(), generator=generator)[:count]
        values[chosen] *= _OUTLIER
    return values


def _norms_of_readers(unet: nn.Module) -> Mapping[str, str]:
    """Weights in attention and feed-forward that read what a norm made, with its scale."""
    return {
        f"{name}.{reader}.weight": f"{name}.{norm}.weight"
        for name, block in unet.named_modules()
        if isinstance(block, BasicTransformerBlock)
        for norm, readers in _NORM_READERS.items()
        for reader in readers
    }
