"""The image codecs: squares of 4x4 pixels become the 48 channels of a latent, and back.

Nothing is lost and nothing learned, which leaves the experiment to the U-Nets. ``CosineCodec`` is
easier to learn from: a square's mean varies a hundred times as much as its finest detail, and what
a U-Net learns first, from squared errors of pixels, is means and slopes, not corners. The decoder
of ``untrained_autoencoder`` is the same map as a convolutional network of diffusers, for pipelines
and the NPU: it is trained, because upsampling by repetition, all that AutoencoderKL has, computes
it only approximately.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from scipy.fft import dct
from torch import nn
from torch.nn.functional import mse_loss, pixel_shuffle, pixel_unshuffle

from edgefusion.models.miniature.fitting import fit
from edgefusion.models.miniature.pairs import as_pixels
from edgefusion.models.miniature.shapes import SIDE_PX, sample
from edgefusion.runtime.progress import Say, silent

if TYPE_CHECKING:
    from edgefusion.models.training.draws import Draws

PATCH_PX = 4
LATENT_CHANNELS = 3 * PATCH_PX**2
SCALING_FACTOR = 1.5
"""Makes latents of pixels in [-1, 1] about unit variance."""
_BATCH = 16
_NOISE = 0.05
_SPREAD_SEED, _SPREAD_SCENES = 66, 512


class PixelCodec(nn.Module):
    """An ``ImageCodec`` without parameters: [n, 3, 4h, 4w] <-> [n, 48, h, w]."""

    def encode(self, pixels: torch.Tensor, draws: Draws | None = None) -> torch.Tensor:  # noqa: ARG002
        """See ``ImageCodec``."""
        return pixel_unshuffle(pixels, PATCH_PX) * SCALING_FACTOR

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``ImageCodec``."""
        return pixel_shuffle(latents / SCALING_FACTOR, PATCH_PX)


class CosineCodec(PixelCodec):
    """A ``PixelCodec`` of the squares' cosine transforms, each component of which is divided by the
    ``detail``-th power of its standard deviation over drawn scenes.

    At 0 the transform is a rotation and errors count as in pixels, at 1 they count the same in all
    components. The variance of all latents together stays.
    """

    to_latents: torch.Tensor
    to_pixels: torch.Tensor

    def __init__(self, detail: float) -> None:
        super().__init__()
        spreads = _spreads()
        gains = spreads**-detail
        gains *= np.sqrt(np.square(spreads).sum() / np.square(gains * spreads).sum())
        basis = torch.from_numpy(_cosines())
        gain = torch.from_numpy(gains)[:, None]
        self.register_buffer("to_latents", (basis * gain).float())
        self.register_buffer("to_pixels", (basis / gain).T.float().contiguous())

    def encode(self, pixels: torch.Tensor, draws: Draws | None = None) -> torch.Tensor:
        """See ``ImageCodec``."""
        return _each_colour(self.to_latents, super().encode(pixels, draws))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``ImageCodec``."""
        return super().decode(_each_colour(self.to_pixels, latents))


def codec_of(detail: float) -> PixelCodec:
    """The ``CosineCodec``; at 0 the ``PixelCodec`` itself."""
    return CosineCodec(detail) if detail else PixelCodec()


def _each_colour(matrix: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    count, _, height, width = latents.shape
    colours = latents.reshape(count, 3, PATCH_PX**2, height, width)
    return torch.einsum("ij,ncjyx->nciyx", matrix, colours).flatten(1, 2)


def _cosines() -> np.ndarray:
    """float64 [16, 16]: component by pixel of a square, orthonormal."""
    line = dct(np.eye(PATCH_PX), axis=0, norm="ortho")
    return np.kron(line, line)


@cache
def _spreads() -> np.ndarray:
    """float64 [16]: root mean square of each component over drawn scenes, about the mean of all."""
    images = np.stack([sample(_SPREAD_SEED, index)[1] for index in range(_SPREAD_SCENES)])
    pixels = torch.from_numpy(images / 127.5 - 1).permute(0, 3, 1, 2)
    squares = pixel_unshuffle(pixels - pixels.mean(), PATCH_PX)
    powers = _each_colour(torch.from_numpy(_cosines()), squares).square().mean((0, 2, 3))
    spreads: np.ndarray = powers.view(3, -1).mean(0).sqrt().numpy()
    return spreads


def untrained_autoencoder(channels: tuple[int, ...], seed: int) -> Any:
    """diffusers' AutoencoderKL of 32 pixels and 48 latent channels, with so many ``channels`` at
    32, 16 and 8 pixels."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    return AutoencoderKL(
        sample_size=SIDE_PX,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=channels,
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        scaling_factor=SCALING_FACTOR,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def train_decoder(
    autoencoder: Any, codec: PixelCodec, seed: int, steps: int, say: Say = silent
) -> Any:
    """``autoencoder``, whose decoder now undoes ``codec.encode`` on drawn scenes, also with noise
    on the latents, as samplers leave it. Nobody uses its encoder, which stays as it was drawn."""
    noise = torch.Generator().manual_seed(seed)

    def loss(step: int) -> torch.Tensor:
        drawn = [sample(seed, step * _BATCH + i)[1] for i in range(_BATCH)]
        pixels = as_pixels([Image.fromarray(image) for image in drawn])
        latents = codec.encode(pixels) / SCALING_FACTOR
        latents = latents + _NOISE * torch.randn(latents.shape, generator=noise)
        return mse_loss(autoencoder.decoder(latents), pixels)

    fit(autoencoder.decoder, loss, steps=steps, learning_rate=2e-3, say=say)
    return autoencoder.requires_grad_(False).eval()
