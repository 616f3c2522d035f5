"""The Fréchet distance, against those of torchmetrics and scipy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from edgefusion.models.miniature.classifier import AttributeNet
from edgefusion.models.miniature.distance import RESAMPLES, Gaussian, distances
from edgefusion.models.miniature.evaluation import prompts, true_pictures
from edgefusion.models.miniature.reader import read, shares_right

GENERATOR = torch.Generator().manual_seed(0)
WIDTH = 12


def features(count: int, shift: float = 0.0) -> torch.Tensor:
    """Correlated, their spreads from 0.1 to 3."""
    spread = torch.logspace(-1, 0.5, WIDTH)
    mixed = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1))
    return torch.randn(count, WIDTH, generator=GENERATOR) * spread @ mixed + shift


def test_it_is_the_distance_of_torchmetrics() -> None:
    class AsIs(nn.Module):
        num_features = WIDTH

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1).float()

    drawn, true = (
        features(n, s).mul(9).add(128).clamp(0, 255).byte() for n, s in ((90, 1), (300, 0))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = FrechetInceptionDistance(AsIs(), input_img_size=(1, 1, WIDTH))
    theirs.set_dtype(torch.float64)
    theirs.update(true[:, None, None], real=True)
    theirs.update(drawn[:, None, None], real=False)
    ours = Gaussian.of(drawn).distance(Gaussian.of(true))
    assert float(ours) == pytest.approx(float(theirs.compute()), rel=1e-4)


def test_it_is_the_formula_with_the_root_of_scipy() -> None:
    first, second = Gaussian.of(features(50, 0.3)), Gaussian.of(features(80))
    one, other = first.covariance.numpy(), second.covariance.numpy()
    apart = ((first.mean - second.mean) ** 2).sum()
    expected = float(apart) + np.trace(one + other - 2 * sqrtm(one @ other).real)
    assert float(first.distance(second)) == pytest.approx(expected, rel=1e-7)


def test_fewer_pictures_than_features() -> None:
    drawn = features(5)
    assert float(Gaussian.of(drawn).distance(Gaussian.of(drawn))) == pytest.approx(0, abs=1e-3)


def test_resamples_are_of_the_same_pictures_for_all() -> None:
    reference = Gaussian.of(features(200))
    drawn = features(60)
    found = distances(drawn, reference)
    assert len(found) == 1 + RESAMPLES
    assert found[0] == pytest.approx(float(Gaussian.of(drawn).distance(reference)))
    assert distances(drawn, reference) == found
    further = np.array(distances(drawn + 2.0, reference)) - np.array(found)
    assert further.min() > 0
    assert further.std() < np.array(found).std()


def test_worse_pictures_lie_further_from_true_ones() -> None:
    torch.manual_seed(0)
    network = AttributeNet(8).requires_grad_(False)
    texts = prompts(40)
    reference = Gaussian.of(network.features(true_pictures(texts)))
    others = true_pictures(prompts(80)[40:])[::8]
    noise = torch.randn(others.shape, generator=GENERATOR)
    found = [
        distances(network.features(pictures), reference)[0]
        for pictures in (others, others + 0.2 * noise, others + 0.5 * noise)
    ]
    assert found == sorted(found)
    assert found[-1] > 1.5 * found[0]


def test_true_pictures_show_their_captions() -> None:
    texts = prompts(12)
    pictures = (true_pictures(texts).permute(0, 2, 3, 1).numpy() + 1) * 127.5
    assert len(pictures) == 8 * len(texts)
    captions = [text for text in texts for _ in range(8)]
    readings = [read(picture.round().astype(np.uint8)) for picture in pictures]
    assert shares_right(captions, readings)["all"] > 0.97
    assert not np.array_equal(pictures[0], pictures[1])
