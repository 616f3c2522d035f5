"""The shape of MobileDiffusion's U-Net (``models.mobile_unet``), and how to build it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import nn

NONE, CROSS, FULL = "none", "cross", "full"
"""What follows each residual block of a level: nothing, a transformer of cross-attention and
feed-forward, or one of self-attention, too."""
SOFTMAX, RELU = "softmax", "relu"
"""What makes weights of an attention's scores."""


@dataclass(frozen=True, slots=True)
class MobileUNetArchitecture:
    """Tuples run from the outermost level inwards; the defaults are MobileDiffusion's.

    From the paper (Zhao et al., 2023): the channels, 11 residual blocks, 15 self-attentions and 18
    cross-attentions; no attention at 64 x 64, no self-attention at 32 x 32; feed-forward layers of
    6 widths where Stable Diffusion has 8; ReLU in the place of softmax. Chosen here, so that its
    counts come out: how the blocks lie on the levels (1, 1 and 2 on the way down, one more on the
    way up, 10 transformers between), heads of 64, and which convolutions are separable: those at
    16 x 16. docs/families.md says what was read of it, and how near the counts are.
    """

    class_name: ClassVar[str] = "MobileUNetModel"
    pooled_width: ClassVar[int | None] = None
    channels: tuple[int, ...] = (320, 640, 1024)
    layers_per_block: tuple[int, ...] = (1, 1, 2)
    attention: tuple[str, ...] = (NONE, CROSS, FULL)
    heads: tuple[int, ...] = (5, 10, 16)
    separable_convolutions: tuple[bool, ...] = (False, False, True)
    middle_layers: int = 10
    latent_size: int = 64
    latent_channels: int = 8
    context_width: int = 768
    feed_forward_expansion: int = 6
    attention_function: str = RELU
    norm_groups: int = 32

    @property
    def divisor(self) -> int:
        """Of the latent: every level but the innermost halves."""
        return 1 << (len(self.channels) - 1)

    def build(self) -> nn.Module:
        """A MobileUNetModel, initialised by torch."""
        from edgefusion.models.mobile_unet import MobileUNetModel

        model: nn.Module = MobileUNetModel(
            sample_size=self.latent_size,
            in_channels=self.latent_channels,
            out_channels=self.latent_channels,
            block_out_channels=self.channels,
            layers_per_block=self.layers_per_block,
            attention=self.attention,
            attention_heads=self.heads,
            separable_convolutions=self.separable_convolutions,
            middle_layers=self.middle_layers,
            cross_attention_dim=self.context_width,
            feed_forward_expansion=self.feed_forward_expansion,
            attention_function=self.attention_function,
            norm_num_groups=self.norm_groups,
        )
        return model
