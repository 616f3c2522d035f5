"""Scores against their formulas in numpy and scipy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from edgefusion.models.clip import clip_from_folder, clip_scorer
from edgefusion.models.evaluation.networks import LOGITS, clip_pair, image_network
from edgefusion.models.evaluation.scores import ScoreNetworks, scores
from edgefusion.runtime.errors import InputError, UsageError
from tests.data_cases import picture, png
from tests.model_folders import clip_folder

SIZE = 16


class Projection(nn.Module):
    """Means of 4 x 4 blocks through a random matrix: [n, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.randn(48, 6, generator=torch.Generator().manual_seed(0)) / 8

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8
        blocks = nn.functional.avg_pool2d(images.float() / 32, SIZE // 4)
        return blocks.flatten(1) @ self.matrix.to(blocks)


def function(images: torch.Tensor) -> torch.Tensor:
    return Projection()(images)


def folder_of(folder: Path, seeds: range, width: int = SIZE, height: int = SIZE) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{seed:03d}.png" for seed in seeds]
    for path, seed in zip(paths, seeds, strict=True):
        path.write_bytes(png(picture(seed, width, height)))
    return paths


def seen(paths: list[Path]) -> np.ndarray[Any, Any]:
    """The features of images of the right size, in float64."""
    seeds = [int(path.stem) for path in paths]
    images = np.stack([np.asarray(picture(seed, SIZE, SIZE)) for seed in seeds])
    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    return np.asarray(Projection()(tensor), np.float64)


def test_fid_is_the_distance_of_two_gaussians(tmp_path: Path) -> None:
    made = folder_of(tmp_path / "made", range(40))
    real = folder_of(tmp_path / "real", range(100, 150))
    networks = ScoreNetworks(features=Projection())
    found = scores(made, [""] * 40, real, networks, size_pixels=SIZE, batch=7)
    a, b = seen(made), seen(real)
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected += np.trace(covariances[0] + covariances[1] - 2 * root)
    assert expected > 0.1
    assert found == {"fid": pytest.approx(expected, rel=1e-4)}


@pytest.mark.parametrize("splits", [1, 4])
def test_the_inception_score_is_exp_of_the_divergence(tmp_path: Path, splits: int) -> None:
    made = folder_of(tmp_path / "made", range(40))
    networks = ScoreNetworks(logits=Projection())
    state = torch.get_rng_state()
    found = scores(made, [""] * 40, [], networks, size_pixels=SIZE, splits=splits, split_seed=3)
    assert torch.equal(state, torch.get_rng_state())
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3)).numpy()
    logits = seen(made)[order]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    parts = np.split(shares, splits)
    each = [np.exp((p * np.log(p / p.mean(0))).sum(1).mean()) for p in parts]
    assert found["inception_score"] == pytest.approx(np.mean(each), rel=1e-5)
    if splits == 1:
        assert found["inception_score_std"] is None
    else:
        assert found["inception_score_std"] == pytest.approx(np.std(each, ddof=1), rel=1e-3)


def test_the_clip_score_is_the_mean_cosine(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "clip")
    made = folder_of(tmp_path / "made", range(5), 32, 32)
    prompts = ["a", "b", "a b", "b a " * 60, "b b"]
    networks = ScoreNetworks(clip=clip_from_folder(folder))
    found = scores(made, prompts, [], networks, size_pixels=32, batch=2)
    scorer = clip_scorer(folder)
    cosines = [scorer([picture(i, 32, 32)], prompt)[0] for i, prompt in enumerate(prompts)]
    assert found == {"clip_score": pytest.approx(np.mean(cosines), rel=1e-5)}


def test_images_are_cut_to_the_centre_and_scaled(tmp_path: Path) -> None:
    shapes = []

    class Spy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(images.shape))
            return images.float().mean((2, 3)).flatten(1)

    made = folder_of(tmp_path / "made", range(3), 64, 40)
    scores(made, [""] * 3, made, ScoreNetworks(features=Spy()), size_pixels=32, batch=2)
    assert set(shapes[1:]) == {(2, 3, 32, 32), (1, 3, 32, 32)}


def test_equal_sets_have_no_distance(tmp_path: Path) -> None:
    made = folder_of(tmp_path / "made", range(30))
    found = scores(made, [""] * 30, made, ScoreNetworks(features=Projection()), size_pixels=SIZE)
    assert found["fid"] == pytest.approx(0, abs=1e-4)


def test_what_cannot_be_scored_is_an_error(tmp_path: Path) -> None:
    made = folder_of(tmp_path / "made", range(3))
    features = ScoreNetworks(features=Projection())
    with pytest.raises(InputError, match="found 3 generated and 1 real"):
        scores(made, [""] * 3, made[:1], features, size_pixels=SIZE)
    broken = nn.Module()
    broken.forward = lambda images: torch.full((len(images), 2), torch.nan)  # type: ignore[assignment,method-assign]
    with pytest.raises(InputError, match="no numbers"):
        scores(made, [""] * 3, [], ScoreNetworks(logits=broken), size_pixels=SIZE)
    made[1].write_bytes(b"half")
    with pytest.raises(InputError, match=r"001\.png cannot be read"):
        scores(made, [""] * 3, made, features, size_pixels=SIZE)


def test_networks_are_named() -> None:
    here = "tests.unit.models.evaluation.test_evaluation_scores"
    images = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)
    for name in ("Projection", "function", "INSTANCE"):
        network = image_network(f"{here}:{name}", LOGITS)
        assert isinstance(network, nn.Module)
        assert network(images).shape == (2, 6)
        assert not network.training
    with pytest.raises(UsageError, match="is a int"):
        image_network(f"{here}:SIZE", LOGITS)
    assert clip_pair(f"{here}:a_pair") == (1, 2)


INSTANCE = Projection()


def a_pair() -> tuple[int, int]:
    return 1, 2


def test_without_torch_fidelity_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefusion.models.evaluation.networks.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"edgefusion\[inception\]"):
        image_network(None, LOGITS)
