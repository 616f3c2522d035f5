"""The three networks as graphs: fixed names, shapes and example inputs of each component.

A component's module has one positional argument an input and one tensor as its result; these
names and shapes are what every later stage, from calibration to the executor, relies on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from edgefusion.models.network_configs import context_width
from edgefusion.models.pipeline_sizes import Sizes, pair
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from edgefusion.models.architectures import Component


@dataclass(frozen=True, slots=True)
class Port:
    """One input: its name, static shape and element type."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs in the order of the module's arguments, and the name of the one output."""

    inputs: tuple[Port, ...]
    output: str


class VaeDecoder(nn.Module):
    """Latent [N, 4, h, w], already divided by the VAE's scaling factor -> image [N, 3, 8h, 8w].

    The image is in about [-1, 1]. The scaling factor (0.18215 in SD v1) stays outside, as in
    diffusers' pipelines: it belongs to the scheduler's arithmetic, not to the network.
    """

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        if autoencoder.post_quant_conv is not None:
            self.post_quant_conv = autoencoder.post_quant_conv
        else:
            self.post_quant_conv = nn.Identity()
        self.decoder = autoencoder.decoder
        self.config = autoencoder.config

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """See the class."""
        image: torch.Tensor = self.decoder(self.post_quant_conv(latent))
        return image


class TextEncoderGraph(nn.Module):
    """Token ids, int64 [N, tokens] -> last hidden state after the final norm [N, tokens, width]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """See the class."""
        hidden_states: torch.Tensor = self.model(input_ids, return_dict=False)[0]
        return hidden_states


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


GRAPH_PREFIX = "model."
"""What the wrappers put before a module's own names; exports remove it again."""


def as_graph(component: Component, module: nn.Module) -> nn.Module:
    """`module` (what Source.load returns) with plain tensors as arguments and result."""
    if component == "text_encoder":
        return TextEncoderGraph(module).eval()
    if component == "unet":
        return UNetGraph(module).eval()
    return module


def signature(
    component: Component, module: nn.Module, sizes: Sizes | None = None, *, batch: int = 1
) -> Signature:
    """Names and static shapes of a loaded component, from its configuration and from the ``sizes``
    that the rest of its pipeline decides.

    Raises InputError for a configuration without a fixed latent size.
    """
    config: Any = module.config
    shared = sizes or Sizes()
    if component == "text_encoder":
        tokens = min(config.max_position_embeddings, shared.context_tokens)
        return Signature((Port("input_ids", (batch, tokens), torch.int64),), "hidden_states")
    latent = shared.latent or _own_latent_size(component, config)
    if component == "vae_decoder":
        return Signature((Port("latent", (batch, config.latent_channels, *latent)),), "image")
    inputs = [
        Port("sample", (batch, config.in_channels, *latent)),
        Port("timestep", (1,), torch.int64),
        # The U-Net itself takes any number of tokens.
        Port("encoder_hidden_states", (batch, shared.context_tokens, context_width(config) or 0)),
    ]
    if config.time_cond_proj_dim is not None:
        inputs.append(Port("timestep_cond", (batch, config.time_cond_proj_dim)))
    return Signature(tuple(inputs), "noise_pred")


def output_shape(module: nn.Module, ports: Signature) -> tuple[int, ...]:
    """What a component makes of inputs as its signature says."""
    config: Any = module.config
    batch, *rest = ports.inputs[0].shape
    if ports.output == "hidden_states":
        return (batch, *rest, config.hidden_size)
    if ports.output == "image":
        factor = _downscaling(config)
        return (batch, config.out_channels, *(factor * side for side in rest[1:]))
    return (batch, *rest)


def _own_latent_size(component: Component, config: Any) -> tuple[int, int]:
    """The size that a configuration states: a decoder's is that of its images."""
    size = pair(config.sample_size)
    if size is None:
        raise InputError(
            f"{component}: config.json has sample_size {config.sample_size!r}; expected one whole "
            "number or a pair [height, width]. Set it and try again."
        )
    if component == "vae_decoder":
        factor = _downscaling(config)
        return size[0] // factor, size[1] // factor
    return size


def _downscaling(config: Any) -> int:
    """Pixels of an image that are one of a VAE's latent, on a side."""
    return int(2 ** (len(config.block_out_channels) - 1))


def example_inputs(signature: Signature) -> tuple[torch.Tensor, ...]:
    """Inputs of the right shapes; values do not matter to the export, but are valid indices."""
    return tuple(torch.ones(port.shape, dtype=port.dtype) for port in signature.inputs)
