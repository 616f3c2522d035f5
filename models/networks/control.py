"""ControlNet (Zhang et al., "Adding conditional control to text-to-image diffusion models", 2023):
a picture to what is added to the states that a U-Net's blocks pass on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgefusion.models.networks.kind import NetworkKind, Port, Signature, Sizes
from edgefusion.models.networks.unet import (
    ANY_LATENT,
    ConditionalUNet,
    check_supported,
    residual_ports,
)

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.config_file import ConfigFile

_USUAL_CONDITIONING = (16, 32, 96, 256)
_UNET = ConditionalUNet()


class ControlNet(NetworkKind):
    """What the U-Net is given, but guidance; ``control_image`` [N, 3, 8h, 8w] in [0, 1] and
    ``control_scale`` [1], how much of it -> ``residual_0`` and so on, ``residual_mid``: for each
    state that the U-Net's blocks pass on one of its shape."""

    class_name: ClassVar[str] = "ControlNetModel"
    library: ClassVar[Literal["diffusers", "transformers"]] = "diffusers"
    usual_levels: ClassVar[int] = 4

    def check(self, config: ConfigFile) -> None:
        """See the base class."""
        elsewhere = "Take another ControlNet."
        for key, supported, why in (
            ("conditioning_channels", (3,), "red, green and blue"),
            ("controlnet_conditioning_channel_order", ("rgb",), "as pictures are given"),
            ("global_pool_conditions", (False,), "the U-Net is run with what it makes as it is"),
            ("class_embed_type", (None,), "it asks for class labels"),
            ("num_class_embeds", (None,), "it asks for class labels"),
        ):
            check_supported(config, key, supported, why, elsewhere)
        if conditioning_factor(config.values) is None:
            raise config.error(
                "conditioning_embedding_out_channels",
                "expected a list, the channels of each level of the picture's embedding. Download "
                "the ControlNet again.",
            )

    def graph(self, part: nn.Module) -> nn.Module:
        """See the base class."""
        from edgefusion.models.graph_modules import ControlNetGraph

        ports = self.signature(part.config, Sizes(latent=ANY_LATENT))
        return ControlNetGraph(part, tuple(port.name for port in ports.inputs))

    def signature(self, config: Any, sizes: Sizes, batch: int = 1) -> Signature:
        """See the base class. A ControlNet states no size of its own."""
        latent = sizes.latent or ANY_LATENT
        factor = conditioning_factor(config) or 1
        picture = (batch, config.conditioning_channels, *(factor * side for side in latent))
        inputs = (
            Port("sample", (batch, config.in_channels, *latent)),
            *_UNET.prompt_ports(config, sizes, batch),
            Port("control_image", picture),
            Port("control_scale", (1,)),
        )
        return Signature(inputs, residual_ports(config, latent, batch))


def conditioning_factor(config: Any) -> int | None:
    """Pixels of the picture that are one of the latent, on a side; None for nonsense."""
    channels = config.get("conditioning_embedding_out_channels", _USUAL_CONDITIONING)
    if not isinstance(channels, Sequence) or not channels:
        return None
    return int(2 ** (len(channels) - 1))
