"""Networks with plain tensors in and out, as ``models.networks`` names them: what is exported."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgefusion.models.networks.kind import MASKED_SCORE

GRAPH_PREFIX = "model."
"""What the wrappers put before a module's own names; exports remove it again."""


class VaeDecoder(nn.Module):
    """Latent [N, 4, h, w], already divided by the VAE's scaling factor -> image [N, 3, 8h, 8w].

    The image is in about [-1, 1]. The scaling factor (0.18215 in SD v1) stays outside, as in
    diffusers' pipelines: it belongs to the scheduler's arithmetic, not to the network.
    """

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        # AutoencoderTiny has none, AutoencoderKL may have none.
        self.post_quant_conv = getattr(autoencoder, "post_quant_conv", None) or nn.Identity()
        self.decoder = autoencoder.decoder
        self.config = autoencoder.config

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """See the class."""
        image: torch.Tensor = self.decoder(self.post_quant_conv(latent))
        return image


class ClipTextGraph(nn.Module):
    """Token ids, int64 [N, tokens] -> hidden states [N, tokens, width]: after the final norm, or
    those that enter the last layer."""

    def __init__(self, model: nn.Module, *, penultimate: bool = False) -> None:
        super().__init__()
        self.model = model
        self.penultimate = penultimate

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """See the class."""
        hidden_states: torch.Tensor
        if self.penultimate:
            hidden_states = self.model(input_ids, output_hidden_states=True).hidden_states[-2]
        else:
            hidden_states = self.model(input_ids, return_dict=False)[0]
        return hidden_states


class ClipTextProjectionGraph(ClipTextGraph):
    """As ``ClipTextGraph``, and the end mark's final state, projected [N, width]."""

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """See the class."""
        made = self.model(input_ids, output_hidden_states=self.penultimate)
        hidden = made.hidden_states[-2] if self.penultimate else made.last_hidden_state
        return hidden, made.text_embeds


class T5TextGraph(nn.Module):
    """Token ids, int64 [N, tokens] -> hidden states [N, tokens, width] after the final norm, and
    the mask [N, tokens] of what is read: 1, or 0 for the ``padding`` token; with None there is no
    mask.

    The position bias, one number a head, query and key, and the mask are one term of the scores,
    the same in all layers: attention then has one mask, as accelerators take it.
    """

    def __init__(self, model: Any, padding: int | None) -> None:
        super().__init__()
        self.model = model
        self.padding = padding

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        encoder, tokens = self.model.encoder, input_ids.shape[-1]
        bias = encoder.block[0].layer[0].SelfAttention.compute_bias(tokens, tokens)
        mask = None
        if self.padding is not None:
            mask = (input_ids != self.padding).to(torch.float32)
            bias = bias + (1 - mask[:, None, None]) * MASKED_SCORE
        hidden = encoder.embed_tokens(input_ids)
        for block in encoder.block:
            hidden = block(hidden, attention_mask=None, position_bias=bias)[0]
        states: torch.Tensor = encoder.final_layer_norm(hidden)
        return states if mask is None else (states, mask)


class UNetGraph(nn.Module):
    """Sample [N, 4, h, w], timestep int64 [1], context [N, tokens, width] -> noise [N, 4, h, w].

    `timestep_cond` [N, width] is the guidance embedding of a latent-consistency student.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        timestep_cond: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See the class."""
        noise_pred: torch.Tensor = self.model(
            sample,
            timestep,
            encoder_hidden_states,
            timestep_cond=timestep_cond,
            return_dict=False,
        )[0]
        return noise_pred


class UNetWithSizesGraph(nn.Module):
    """As ``UNetGraph``, with a pooled text [N, width] and the picture's sizes [N, 6] as the last
    inputs; the guidance embedding, where there is one, comes before these."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        *rest: torch.Tensor,
    ) -> torch.Tensor:
        """See the class."""
        *guidance, text_embeds, time_ids = rest
        noise_pred: torch.Tensor = self.model(
            sample,
            timestep,
            encoder_hidden_states,
            timestep_cond=guidance[0] if guidance else None,
            added_cond_kwargs={"text_embeds": text_embeds, "time_ids": time_ids},
            return_dict=False,
        )[0]
        return noise_pred
