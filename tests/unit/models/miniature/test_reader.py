"""The reader by arithmetic against drawn pictures, whose scenes are known."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.models.miniature.reader import read, shares_right
from edgefusion.models.miniature.shapes import ATTRIBUTES, caption, sample

PICTURES = [sample(5, index) for index in range(200)]
CAPTIONS = [caption(scene) for scene, _ in PICTURES]


@pytest.fixture(scope="module")
def readings() -> list[dict[str, str]]:
    return [read(picture) for _, picture in PICTURES]


@pytest.mark.parametrize("noise", [0, 20])
def test_true_pictures_are_read_right(noise: float) -> None:
    rng = np.random.default_rng(0)
    right = []
    for scene, picture in PICTURES:
        noisy = (picture + rng.normal(0, noise, picture.shape)).round().clip(0, 255)
        found = read(noisy.astype(np.uint8))
        right += [found[name] == getattr(scene, name) for name in ATTRIBUTES]
    assert np.mean(right) > (0.98 if noise else 0.998)


def test_shares_count_what_captions_tell(readings: list[dict[str, str]]) -> None:
    assert set(shares_right(CAPTIONS, readings)) == {*ATTRIBUTES, "all"}
    assert shares_right(["a circle"], readings[:1]).keys() == {"shape", "all"}
    scene, _ = PICTURES[0]
    other = next(shape for shape in ATTRIBUTES["shape"] if shape != scene.shape)
    wrong = CAPTIONS[0].replace(scene.shape, other)
    assert shares_right([CAPTIONS[0], wrong], readings[:1] * 2)["shape"] == 0.5


def test_other_pictures_captions_are_seldom_right(readings: list[dict[str, str]]) -> None:
    shares = shares_right(CAPTIONS[1:] + CAPTIONS[:1], readings)
    assert all(share < 0.7 for share in shares.values())
