from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edgefusion.models.miniature.codec import (
    SCALING_FACTOR,
    PixelCodec,
    trained_autoencoder,
    untrained_autoencoder,
)
from edgefusion.models.miniature.networks import LATENT_SHAPE
from edgefusion.models.miniature.shapes import sample


def drawn(count: int) -> torch.Tensor:
    images = torch.from_numpy(np.stack([sample(8, i)[1] for i in range(count)]))
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def test_nothing_is_lost_and_latents_have_unit_variance() -> None:
    pixels = drawn(300)
    latents = PixelCodec().encode(pixels)
    assert latents.shape[1:] == LATENT_SHAPE
    torch.testing.assert_close(PixelCodec().decode(latents), pixels, rtol=0, atol=1e-6)
    assert 0.85 < float(latents.std()) < 1.15


def test_the_decoder_learns_to_undo_the_codec() -> None:
    networks = (untrained_autoencoder(1), trained_autoencoder(1, steps=40))
    pixels = drawn(32)
    latents = PixelCodec().encode(pixels) / SCALING_FACTOR
    with torch.no_grad():
        errors = [_error(network, latents, pixels) for network in networks]
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.25


def _error(network: Any, latents: torch.Tensor, pixels: torch.Tensor) -> float:
    return float((network.decode(latents).sample - pixels).square().mean())
