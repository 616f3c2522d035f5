from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from edgefusion.models.miniature.shapes import (
    ATTRIBUTES,
    COLOURS,
    GROUNDS,
    SIDE_PX,
    Scene,
    caption,
    picture,
    sample,
    told,
)

ALL = [Scene(*words) for words in product(*ATTRIBUTES.values())]


def test_captions_tell_their_scene() -> None:
    for scene in ALL:
        assert Scene(**told(caption(scene))) == scene
        open_position = told(f"a picture of {caption(scene, with_position=False)}")
        assert "position" not in open_position
        assert len(open_position) == 4
        assert Scene.of_labels(scene.labels()) == scene


def test_captions_that_tell_nothing() -> None:
    assert told("a picture") == {}
    assert told("a picture of a circle") == {"shape": "circle"}
    assert told("") == {}


def test_pictures_are_functions_of_seed_and_index() -> None:
    for (scene, image), (again, same) in ((sample(3, i), sample(3, i)) for i in range(5)):
        assert scene == again
        np.testing.assert_array_equal(image, same)
    assert not np.array_equal(sample(3, 0)[1], sample(3, 1)[1])
    assert not np.array_equal(sample(3, 0)[1], sample(4, 0)[1])


@pytest.mark.parametrize("index", range(40))
def test_pictures_show_colour_ground_and_position(index: int) -> None:
    scene, image = sample(5, index)
    pixels = image.astype(float)
    assert np.abs(pixels[0, 0] - GROUNDS[scene.ground]).max() < 70
    away = np.abs(pixels - pixels[0, 0]).sum(2)
    weights = away / away.sum()
    column = float((weights.sum(0) * (np.arange(SIDE_PX) + 0.5)).sum() / SIDE_PX)
    assert column == pytest.approx(
        {"left": 0.3, "middle": 0.5, "right": 0.7}[scene.position], abs=0.04
    )
    middle = pixels[SIDE_PX // 2, int(column * SIDE_PX)]
    assert np.abs(middle - COLOURS[scene.colour]).max() < 70


def test_edges_cover_the_right_area() -> None:
    """Antialiased circles have the area of circles: no jagged edges, no fringe."""
    for seed in range(20):
        image = picture(
            Scene("circle", "white", "large", "middle", "black"), np.random.default_rng(seed)
        )
        radius = np.random.default_rng(seed).uniform(0.24, 0.28) * SIDE_PX
        inside, outside = image[16, 16].astype(float), image[0, 0].astype(float)
        cover = ((image - outside) / (inside - outside)).mean(2)
        assert cover.sum() == pytest.approx(np.pi * radius**2, rel=0.01)
        assert ((cover > 0.1) & (cover < 0.9)).sum() > 20
