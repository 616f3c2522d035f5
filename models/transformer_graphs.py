"""Diffusion transformers with plain tensors in and out: what is exported.

Each as its class of diffusers computes it, in a form that accelerators take: one mask for all
heads, joint attention over tokens that are joined before they are split into heads, patches that
become pixels by transposes of four axes, not by one of six.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgefusion.models.networks.autoencoder import FACTOR


class PixArtGraph(nn.Module):
    """Sample [N, c, h, w], timestep [1], context [N, tokens, width] and what is added to its scores
    [N, 1, tokens] -> noise [N, c, h, w].

    The ``squeeze(1)`` of ``PixArtTransformer2DModel``, which does nothing to tokens, is left out:
    exporters make of it a Squeeze of an axis that is not 1, which ONNX does not allow. What it
    predicts beside the noise, a variance, is left out, as diffusers' pipeline does not use it. The
    picture's sizes, where it is told them, follow from the sample's shape: a graph has one.
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
        return _pixels(patches, model.config.patch_size, height, width)[:, :channels]

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


class Sd3Graph(nn.Module):
    """Sample [N, c, h, w], timestep [1], context [N, tokens, width] and pooled text [N, width]
    -> velocity [N, c, h, w], as ``SD3Transformer2DModel`` computes it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        for block in model.transformer_blocks:
            block.attn.processor = JointAttention()
            if block.attn2 is not None:
                block.attn2.processor = JointAttention()

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        pooled_projections: torch.Tensor,
    ) -> torch.Tensor:
        """See the class."""
        model, (count, _, height, width) = self.model, sample.shape
        tokens = model.pos_embed(sample)
        embedded = model.time_text_embed(timestep.expand(count), pooled_projections)
        context = model.context_embedder(encoder_hidden_states)
        for block in model.transformer_blocks:
            context, tokens = block(
                hidden_states=tokens, encoder_hidden_states=context, temb=embedded
            )
        patches = model.proj_out(model.norm_out(tokens, embedded))
        return _pixels(patches, model.config.patch_size, height, width)


class JointAttention:
    """Tokens of picture and text attend to both, as diffusers' ``JointAttnProcessor2_0`` has it;
    they are normed by head and joined before they are split into heads."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: None = None,  # noqa: ARG002
    ) -> Any:
        """Tokens of the picture [N, tokens, width], or of the picture and of the text, to the
        same."""

        def by_head(tokens: torch.Tensor) -> torch.Tensor:
            return tokens.reshape(*tokens.shape[:2], attn.heads, -1)

        def made(tokens: torch.Tensor, layer: nn.Module, norm: nn.Module | None) -> torch.Tensor:
            projected: torch.Tensor = layer(tokens)
            return projected if norm is None else norm(by_head(projected)).flatten(2)

        sources = [(hidden_states, attn.to_q, attn.to_k, attn.to_v, attn.norm_q, attn.norm_k)]
        if encoder_hidden_states is not None:
            layers = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            norms = (attn.norm_added_q, attn.norm_added_k)
            sources.append((encoder_hidden_states, *layers, *norms))
        q = [made(tokens, to_q, norm) for tokens, to_q, _, _, norm, _ in sources]
        k = [made(tokens, to_k, norm) for tokens, _, to_k, _, _, norm in sources]
        v = [made(tokens, to_v, None) for tokens, _, _, to_v, _, _ in sources]
        query, key, value = (by_head(torch.cat(each, dim=1)).transpose(1, 2) for each in (q, k, v))
        scored = nn.functional.scaled_dot_product_attention(query, key, value)
        attended = scored.transpose(1, 2).flatten(2)
        count = hidden_states.shape[1]
        of_picture = attn.to_out[0](attended[:, :count])
        if encoder_hidden_states is None:
            return of_picture
        of_text = attended[:, count:]
        return of_picture, of_text if attn.context_pre_only else attn.to_add_out(of_text)


def _pixels(patches: torch.Tensor, side: int, height: int, width: int) -> torch.Tensor:
    """Patches [N, tokens, side * side * c] as a picture [N, c, height, width]."""
    count = patches.shape[0]
    lines = patches.reshape(count, height // side, width // side, side, -1).transpose(2, 3)
    return lines.reshape(count, height, width, -1).permute(0, 3, 1, 2)
