from __future__ import annotations

import numpy as np
from PIL import Image

from edgefusion.models.image_grid import image_grid

RNG = np.random.default_rng(0)


def images(count: int) -> list[Image.Image]:
    return [
        Image.fromarray(RNG.integers(256, size=(6, 10, 3), dtype=np.uint8)) for _ in range(count)
    ]


def test_without_labels_images_touch() -> None:
    one, two, three = images(3)
    grid = np.asarray(image_grid([[one, two], [three, None]]))
    assert grid.shape == (12, 20, 3)
    np.testing.assert_array_equal(grid[:6, 10:], two)
    np.testing.assert_array_equal(grid[6:, :10], three)
    assert (grid[6:, 10:] == 255).all(), "nothing where an image is missing"


def test_enlarged_pixels_are_repeated() -> None:
    (one,) = images(1)
    grid = np.asarray(image_grid([[one]], enlarged=3))
    np.testing.assert_array_equal(grid, np.asarray(one).repeat(3, 0).repeat(3, 1))


def test_labels_and_titles_stand_clear_of_the_images() -> None:
    black = [Image.new("RGB", (40, 40)) for _ in range(4)]
    labels = ("short", "a label that is a good deal longer than its image")
    grid = np.asarray(image_grid([black[:2], black[2:]], labels=labels, titles=("A", "B")))
    rows, columns = (np.flatnonzero((grid == 0).all(-1).sum(axis) >= 40) for axis in (1, 0))
    assert len(rows) == len(columns) == 80
    assert columns[0] > 200, "room for the longer label"
    before = grid[:, : columns[0]]
    assert (before < 128).any(), "labels are drawn"
    assert (grid[: rows[0]] < 128).any(), "titles are drawn"
    assert (before[:, -3:] == 255).all()
