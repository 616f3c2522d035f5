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


class VaeEncoder(nn.Module):
    """Image [N, 3, 8h, 8w] in [-1, 1] -> latent [N, c, h, w], not yet times the scaling factor; of
    AutoencoderKL mean and logarithm of the variance of it, side by side [N, 2c, h, w]."""

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.encoder = autoencoder.encoder
        # AutoencoderTiny has none, AutoencoderKL may have none.
        self.quant_conv = getattr(autoencoder, "quant_conv", None) or nn.Identity()
        self.config = autoencoder.config

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See the class."""
        made: torch.Tensor = self.quant_conv(self.encoder(image))
        return made


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
    """What ``inputs`` name, in this order -> noise [N, c, h, w]: sample [N, c, h, w], timestep [1]
    and encoder_hidden_states [N, tokens, width], and of the following those that the U-Net takes.

    - timestep_cond [N, width], the guidance embedding of a latent-consistency student
    - text_embeds [N, width] and time_ids [N, 6], a pooled text and the picture's sizes
    - mask [N, 1, h, w] and masked_image_latent [N, c, h, w], beside the sample
    - residual_..., what a control adds to the states that its blocks pass on
    """

    def __init__(self, model: nn.Module, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """See the class."""
        given = dict(zip(self.inputs, values, strict=True))
        added = {name: given[name] for name in ("text_embeds", "time_ids") if name in given}
        beside = [given[name] for name in ("mask", "masked_image_latent") if name in given]
        sample = torch.cat([given["sample"], *beside], dim=1) if beside else given["sample"]
        residuals = [given[name] for name in self.inputs if name.startswith("residual_")]
        noise_pred: torch.Tensor = self.model(
            sample,
            given["timestep"],
            given["encoder_hidden_states"],
            timestep_cond=given.get("timestep_cond"),
            added_cond_kwargs=added or None,
            down_block_additional_residuals=residuals[:-1] or None,
            mid_block_additional_residual=residuals[-1] if residuals else None,
            return_dict=False,
        )[0]
        return noise_pred


class ControlNetGraph(nn.Module):
    """What ``inputs`` name, in this order -> what is added to each state that the U-Net's blocks
    pass on, that of the innermost last: the U-Net's inputs as ``UNetGraph`` has them, control_image
    [N, 3, 8h, 8w] in [0, 1] and control_scale [1]."""

    def __init__(self, model: nn.Module, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See the class."""
        given = dict(zip(self.inputs, values, strict=True))
        added = {name: given[name] for name in ("text_embeds", "time_ids") if name in given}
        down, middle = self.model(
            given["sample"],
            given["timestep"],
            given["encoder_hidden_states"],
            controlnet_cond=given["control_image"],
            conditioning_scale=given["control_scale"],
            added_cond_kwargs=added or None,
            return_dict=False,
        )
        return (*down, middle)
