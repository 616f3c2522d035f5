"""PixArt's transformer with plain tensors in and out: what is exported."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgefusion.models.networks.autoencoder import FACTOR


class PixArtGraph(nn.Module):
    """Sample [N, c, h, w], timestep [1], context [N, tokens, width] and what is added to its scores
    [N, 1, tokens] -> noise [N, c, h, w].

    As ``PixArtTransformer2DModel`` computes it, with three differences of form. Its ``squeeze(1)``
    of tokens, which does nothing, is left out: exporters make of it a Squeeze of an axis that is
    not 1, which ONNX does not allow. Patches become pixels by transposes of four axes, not by one
    of six. What it predicts beside the noise, a variance, is left out, as diffusers' pipeline does
    not use it. The picture's sizes, where the transformer is told them, follow from the sample's
    shape, of which a graph has one.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        for block in model.transformer_blocks:
            block.attn2.processor = KeyMaskedAttention()

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        """See the class."""
        model, (count, channels, height, width) = self.model, sample.shape
        tokens = model.pos_embed(sample)
        modulation, embedded = model.adaln_single(
            timestep.expand(count),
            self._sizes(count, FACTOR * height, FACTOR * width),
            batch_size=count,
            hidden_dtype=sample.dtype,
        )
        context = model.caption_projection(encoder_hidden_states)
        for block in model.transformer_blocks:
            tokens = block(
                tokens,
                encoder_hidden_states=context,
                encoder_attention_mask=encoder_attention_mask,
                timestep=modulation,
            )
        shift, scale = (model.scale_shift_table[None] + embedded[:, None]).chunk(2, dim=1)
        patches = model.proj_out(model.norm_out(tokens) * (1 + scale) + shift)
        side = model.config.patch_size
        lines = patches.reshape(count, height // side, width // side, side, -1).transpose(2, 3)
        pixels = lines.reshape(count, height, width, -1)
        predicted: torch.Tensor = pixels.permute(0, 3, 1, 2)[:, :channels]
        return predicted

    def _sizes(self, count: int, height: int, width: int) -> dict[str, torch.Tensor | None]:
        if not self.model.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        sides = torch.tensor([[float(height), float(width)]])
        ratio = torch.tensor([[float(height / width)]])
        return {"resolution": sides.expand(count, -1), "aspect_ratio": ratio.expand(count, -1)}


class KeyMaskedAttention:
    """Cross-attention as diffusers' ``AttnProcessor2_0`` computes it, with a mask [N, 1, keys] that
    is added to the scores as it is; diffusers repeats it for every head before."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Tokens [N, queries, width] that attend to others."""

        def split(tokens: torch.Tensor) -> torch.Tensor:
            return tokens.reshape(*tokens.shape[:2], attn.heads, -1).transpose(1, 2)

        q = split(attn.to_q(hidden_states))
        k = split(attn.to_k(encoder_hidden_states))
        v = split(attn.to_v(encoder_hidden_states))
        scores = q @ k.transpose(-1, -2) * attn.scale + attention_mask[:, None]
        attended = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        result: torch.Tensor = attn.to_out[0](attended)
        return result
