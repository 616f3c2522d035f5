"""The image codec: squares of 4x4 pixels become the 48 channels of a latent, and back.

Nothing is lost and nothing learned, which leaves the experiment to the U-Nets. ``decoder`` is the
same map as a convolutional network of diffusers, for pipelines and the NPU: it is trained, because
upsampling by repetition, all that AutoencoderKL has, computes it only approximately.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import nn
from torch.nn.functional import mse_loss, pixel_shuffle, pixel_unshuffle

from edgefusion.models.miniature.fitting import Say, fit
from edgefusion.models.miniature.pairs import as_pixels
from edgefusion.models.miniature.shapes import SIDE_PX, sample

if TYPE_CHECKING:
    from edgefusion.models.training.draws import Draws

PATCH_PX = 4
LATENT_CHANNELS = 3 * PATCH_PX**2
SCALING_FACTOR = 1.5
"""Makes latents of pixels in [-1, 1] about unit variance."""
_CHANNELS = (24, 32, 64)
_BATCH = 16
_NOISE = 0.05


class PixelCodec(nn.Module):
    """An ``ImageCodec`` without parameters: [n, 3, 4h, 4w] <-> [n, 48, h, w]."""

    def encode(self, pixels: torch.Tensor, draws: Draws | None = None) -> torch.Tensor:  # noqa: ARG002
        """See ``ImageCodec``."""
        return pixel_unshuffle(pixels, PATCH_PX) * SCALING_FACTOR

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``ImageCodec``."""
        return pixel_shuffle(latents / SCALING_FACTOR, PATCH_PX)


def untrained_autoencoder(seed: int) -> Any:
    """diffusers' AutoencoderKL of 32 pixels and 48 latent channels, 0.46 M weights to decode."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    return AutoencoderKL(
        sample_size=SIDE_PX,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=_CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * len(_CHANNELS),
        up_block_types=("UpDecoderBlock2D",) * len(_CHANNELS),
        scaling_factor=SCALING_FACTOR,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def trained_autoencoder(seed: int, steps: int, say: Say = lambda _text: None) -> Any:
    """An AutoencoderKL whose decoder undoes ``PixelCodec.encode`` on drawn scenes, also with noise
    on the latents, as samplers leave it. Nobody uses its encoder, which stays as it was drawn."""
    autoencoder = untrained_autoencoder(seed)
    codec = PixelCodec()
    noise = torch.Generator().manual_seed(seed)

    def loss(step: int) -> torch.Tensor:
        drawn = [sample(seed, step * _BATCH + i)[1] for i in range(_BATCH)]
        pixels = as_pixels([Image.fromarray(image) for image in drawn])
        latents = codec.encode(pixels) / SCALING_FACTOR
        latents = latents + _NOISE * torch.randn(latents.shape, generator=noise)
        return mse_loss(autoencoder.decoder(latents), pixels)

    fit(autoencoder.decoder, loss, steps=steps, learning_rate=2e-3, say=say)
    return autoencoder.requires_grad_(False).eval()
