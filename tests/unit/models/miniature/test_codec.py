from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from edgefusion.models.miniature.codec import (
    SCALING_FACTOR,
    CosineCodec,
    PixelCodec,
    codec_of,
    train_decoder,
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
    def untrained() -> Any:
        return untrained_autoencoder((24, 32, 64), 1)

    networks = (untrained(), train_decoder(untrained(), PixelCodec(), 1, steps=40))
    pixels = drawn(32)
    latents = PixelCodec().encode(pixels) / SCALING_FACTOR
    with torch.no_grad():
        errors = [_error(network, latents, pixels) for network in networks]
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.25


def _error(network: Any, latents: torch.Tensor, pixels: torch.Tensor) -> float:
    return float((network.decode(latents).sample - pixels).square().mean())


@pytest.mark.parametrize("detail", [0.3, 0.5, 1.0])
def test_cosines_lose_nothing_and_keep_the_variance(detail: float) -> None:
    pixels = drawn(300)
    codec = CosineCodec(detail)
    latents = codec.encode(pixels)
    assert latents.shape[1:] == LATENT_SHAPE
    torch.testing.assert_close(codec.decode(latents), pixels, rtol=0, atol=1e-5)
    plain = float(PixelCodec().encode(pixels).std())
    assert abs(float(latents.std()) / plain - 1) < 0.08


def test_the_components_are_cosine_transforms_by_scipy() -> None:
    image = torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(1))
    latents = CosineCodec(0.5).encode(image[None])[0].reshape(3, 4, 4, 8, 8).numpy()
    gains = latents[1, :, :, 2, 5] / dctn(image[1, 8:12, 20:24].numpy(), norm="ortho")
    others = dctn(image[2, 12:16, 16:20].numpy(), norm="ortho")
    np.testing.assert_allclose(latents[2, :, :, 3, 4], gains * others, rtol=1e-3, atol=1e-5)


def test_with_full_detail_all_components_spread_alike() -> None:
    latents = CosineCodec(1.0).encode(drawn(400)).reshape(400, 3, 16, -1)
    spreads = (latents - latents.mean((0, 1, 3), keepdim=True)).square().mean((0, 1, 3)).sqrt()
    assert float(spreads.max() / spreads.min()) < 1.2


def test_less_detail_lies_between() -> None:
    def ratio(detail: float) -> float:
        latents = CosineCodec(detail).encode(drawn(100)).reshape(100, 3, 16, -1)
        powers = latents.square().mean((0, 1, 3))
        return float(powers.max() / powers.min())

    assert ratio(1.0) < ratio(0.5) < ratio(0.01)


def test_no_detail_is_pixels_themselves() -> None:
    assert type(codec_of(0.0)) is PixelCodec
    assert isinstance(codec_of(0.5), CosineCodec)
