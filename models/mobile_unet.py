"""MobileDiffusion's U-Net (Zhao et al., "MobileDiffusion", 2023) as a module of torch.

No library has it, and its weights were not published. Against Stable Diffusion's: most transformers
at the innermost of three levels, none at the outermost, and no self-attention between; keys that
are their own values, from one projection; feed-forward layers gated by swish in the place of GELU,
and narrower; attention fine-tuned from softmax to ReLU; separable convolutions in the deeper part;
half the residual blocks. Which sizes: ``models.mobile_architecture``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import FeedForward
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn

from edgefusion.models.mobile_architecture import FULL, NONE, SOFTMAX

_GROUP_NORM_EPSILON = 1e-6
"""Of transformers, as in Stable Diffusion."""
_RESIDUAL_EPSILON = 1e-5
_TIME_FACTOR = 4
"""The time's embedding is as often as wide as the outermost level."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all blocks of one network have in common; ``expansion`` is what the first layer of a
    feed-forward makes of a width, both halves counted."""

    time_width: int
    context_width: int
    expansion: int
    function: str
    groups: int


class SharedKeyValueAttention(nn.Module):
    """Queries [N, lq, width] to a context [N, lk, context_width], whose keys are its values.

    ``function`` relu weighs values by relu(scores) / lk (Wortsman et al., "Replacing softmax with
    ReLU in Vision Transformers", 2023).
    """

    def __init__(self, width: int, context_width: int, heads: int, function: str) -> None:
        super().__init__()
        self.heads, self.function = heads, function
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, states: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """See the class."""
        query, shared = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in (self.to_q(states), self.to_kv(context))
        )
        if self.function == SOFTMAX:
            mixed = nn.functional.scaled_dot_product_attention(query, shared, shared)
        else:
            # ReLU keeps positive factors: both are of the queries, the fewest numbers here.
            factor = query.shape[-1] ** -0.5 / shared.shape[-2]
            mixed = nn.functional.relu((query * factor) @ shared.transpose(-1, -2)) @ shared
        made: torch.Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return made


class MobileTransformer(nn.Module):
    """An image [N, width, h, w] and a context [N, tokens, context_width] to an image.

    Between two projections of each pixel: self-attention (or not), cross-attention and
    feed-forward, each with its norm before and a residual around.
    """

    def __init__(self, width: int, heads: int, self_attention: bool, shared: Shared) -> None:
        super().__init__()
        function = shared.function
        self.norm = nn.GroupNorm(shared.groups, width, eps=_GROUP_NORM_EPSILON)
        self.proj_in = nn.Conv2d(width, width, 1)
        if self_attention:
            self.norm1 = nn.LayerNorm(width)
            self.attn1 = SharedKeyValueAttention(width, width, heads, function)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = SharedKeyValueAttention(width, shared.context_width, heads, function)
        self.norm3 = nn.LayerNorm(width)
        # One half of what the first layer makes gates the other.
        inner = shared.expansion * width // 2
        self.ff = FeedForward(width, inner_dim=inner, activation_fn="swiglu")
        self.proj_out = nn.Conv2d(width, width, 1)
        self.self_attention = self_attention

    def forward(self, image: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """See the class."""
        height = image.shape[-2]
        states = self.proj_in(self.norm(image)).flatten(2).transpose(1, 2)
        if self.self_attention:
            normed = self.norm1(states)
            states = states + self.attn1(normed, normed)
        states = states + self.attn2(self.norm2(states), context)
        states = states + self.ff(self.norm3(states))
        made = states.transpose(1, 2).unflatten(2, (height, -1))
        result: torch.Tensor = self.proj_out(made) + image
        return result


def _separable(taken: int, made: int) -> nn.Sequential:
    """A 3x3 convolution of each channel by itself, then one of all channels at each pixel."""
    return nn.Sequential(
        nn.Conv2d(taken, taken, 3, padding=1, groups=taken, bias=False), nn.Conv2d(taken, made, 1)
    )


class _Level(nn.Module):
    """The residual blocks of one level on one way, each with a transformer behind it or none."""

    def __init__(
        self,
        taken: Sequence[int],
        width: int,
        heads: int,
        shared: Shared,
        *,
        attention: str,
        separable: bool,
    ) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(), nn.ModuleList()
        for channels in taken:
            resnet = ResnetBlock2D(
                in_channels=channels,
                out_channels=width,
                temb_channels=shared.time_width,
                groups=shared.groups,
                eps=_RESIDUAL_EPSILON,
            )
            if separable:
                resnet.conv1, resnet.conv2 = _separable(channels, width), _separable(width, width)
            self.resnets.append(resnet)
            if attention != NONE:
                self.attentions.append(MobileTransformer(width, heads, attention == FULL, shared))

    def block(
        self, index: int, image: torch.Tensor, time: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        """A residual block and what is behind it."""
        made: torch.Tensor = self.resnets[index](image, time)
        return self.attentions[index](made, context) if len(self.attentions) else made


class MobileUNetModel(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """``sample`` [N, c, h, w], ``timestep`` [1] and ``encoder_hidden_states`` [N, tokens, width]
    to the noise [N, c, h, w].

    Lists have one entry a level, from the outermost inwards; ``layers_per_block`` counts residual
    blocks on the way down, of which the way up has one more. ``middle_layers`` are transformers
    between the two ways.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        sample_size: int | tuple[int, int],  # noqa: ARG002  # of the configuration alone
        in_channels: int,
        out_channels: int,
        block_out_channels: tuple[int, ...],
        layers_per_block: tuple[int, ...],
        attention: tuple[str, ...],
        attention_heads: tuple[int, ...],
        separable_convolutions: tuple[bool, ...],
        middle_layers: int,
        cross_attention_dim: int,
        feed_forward_expansion: int,
        attention_function: str,
        norm_num_groups: int,
    ) -> None:
        super().__init__()
        channels, innermost = block_out_channels, len(block_out_channels) - 1
        shared = Shared(
            time_width=_TIME_FACTOR * channels[0],
            context_width=cross_attention_dim,
            expansion=feed_forward_expansion,
            function=attention_function,
            groups=norm_num_groups,
        )

        def level_of(taken: Sequence[int], level: int) -> _Level:
            return _Level(
                taken,
                channels[level],
                attention_heads[level],
                shared,
                attention=attention[level],
                separable=separable_convolutions[level],
            )

        self.time_proj = Timesteps(channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(channels[0], shared.time_width)
        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.down: Any = nn.ModuleList()
        self.up: Any = nn.ModuleList()
        self.downsamplers, self.upsamplers = nn.ModuleList(), nn.ModuleList()
        kept, width = [channels[0]], channels[0]
        for level, (made, layers) in enumerate(zip(channels, layers_per_block, strict=True)):
            self.down.append(level_of([width, *[made] * (layers - 1)], level))
            kept += [made] * layers
            width = made
            if level != innermost:
                self.downsamplers.append(Downsample2D(made, use_conv=True, name="op"))
                kept.append(made)
        self.middle = nn.ModuleList(
            MobileTransformer(width, attention_heads[-1], True, shared)
            for _ in range(middle_layers)
        )
        for level in reversed(range(len(channels))):
            taken = []
            for _ in range(layers_per_block[level] + 1):
                taken.append(width + kept.pop())
                width = channels[level]
            self.up.append(level_of(taken, level))
            if level:
                self.upsamplers.append(Upsample2D(width, use_conv=True))
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, width, eps=_RESIDUAL_EPSILON)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        """See the class."""
        context = encoder_hidden_states
        time = self.time_embedding(self.time_proj(timestep).to(sample.dtype))
        image = self.conv_in(sample)
        kept = [image]
        for index, level in enumerate(self.down):
            for block in range(len(level.resnets)):
                image = level.block(block, image, time, context)
                kept.append(image)
            if index < len(self.downsamplers):
                image = self.downsamplers[index](image)
                kept.append(image)
        for transformer in self.middle:
            image = transformer(image, context)
        for index, level in enumerate(self.up):
            for block in range(len(level.resnets)):
                image = level.block(block, torch.cat([image, kept.pop()], 1), time, context)
            if index < len(self.upsamplers):
                image = self.upsamplers[index](image)
        noise: torch.Tensor = self.conv_out(nn.functional.silu(self.conv_norm_out(image)))
        return noise
