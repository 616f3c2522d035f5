"""MobileDiffusion's U-Net: as Stable Diffusion's to those around it, another network inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from edgefusion.models.config_file import is_count
from edgefusion.models.mobile_architecture import CROSS, FULL, NONE, RELU, SOFTMAX
from edgefusion.models.networks.kind import Port, Signature, Sizes, halvings
from edgefusion.models.networks.unet import ConditionalUNet

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.config_file import ConfigFile

_BY_LEVEL = ("layers_per_block", "attention", "attention_heads", "separable_convolutions")
_ATTENTIONS = (NONE, CROSS, FULL)


class MobileUNet(ConditionalUNet):
    """``sample`` [N, c, h, w], ``timestep`` [1], ``encoder_hidden_states`` [N, tokens, width]
    -> ``noise_pred`` [N, c, h, w]: ``models.mobile_unet``."""

    class_name: ClassVar[str] = "MobileUNetModel"
    usual_levels: ClassVar[int] = 3

    def library_class(self) -> Any:
        """This project's own: no library has the network; its files are as diffusers saves them."""
        from edgefusion.models.mobile_unet import MobileUNetModel

        return MobileUNetModel

    def check(self, config: ConfigFile) -> None:
        """See the base class."""
        super().check(config)
        values = config.values
        levels = halvings(config, self.usual_levels) + 1
        for key in _BY_LEVEL:
            stated = values.get(key)
            if not isinstance(stated, list) or len(stated) != levels:
                raise config.error(key, f"expected a list of {levels}, one for each level.")
        if any(each not in _ATTENTIONS for each in values["attention"]):
            raise config.error("attention", f"expected {', '.join(_ATTENTIONS)} at each level.")
        if values.get("attention_function") not in (SOFTMAX, RELU):
            raise config.error("attention_function", f"expected {SOFTMAX} or {RELU}.")
        expansion = values.get("feed_forward_expansion")
        if not is_count(expansion) or expansion % 2:
            raise config.error(
                "feed_forward_expansion", "expected an even number: one half gates the other."
            )

    def graph(self, part: nn.Module) -> nn.Module:
        """See the base class."""
        return part

    def signature(self, config: Any, sizes: Sizes, batch: int = 1) -> Signature:
        """See the base class."""
        latent = sizes.latent or self.own_size(config)
        context = (batch, sizes.context_tokens, config.cross_attention_dim)
        return Signature(
            (
                Port("sample", (batch, config.in_channels, *latent)),
                Port("timestep", (1,), sizes.timestep_dtype),
                Port("encoder_hidden_states", context),
            ),
            (Port("noise_pred", (batch, config.out_channels, *latent)),),
        )
