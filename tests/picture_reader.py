"""What a picture of one shape on a plain ground shows, by arithmetic: no network reads it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgefusion.models.miniature.shapes import COLOURS, GROUNDS

SMALL_TO_LARGE = 0.37
"""Extents in shares of the picture: a small shape's is 0.32 at most, a large one's 0.42 at least,
less a pixel."""


def read(image: npt.NDArray[np.uint8]) -> dict[str, str]:
    """Shape, colour, size, position and ground of an image, bytes [side, side, 3]."""
    pixels = image.astype(float)
    side = len(pixels)

    # The ground is what the frame shows; the shape is what differs from it
    frame = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(frame, axis=0)
    distance = np.linalg.norm(pixels - ground, axis=-1)
    cover = np.clip(distance / np.quantile(distance, 0.99), 0, 1)
    inside = cover > 0.5
    colour = np.median(pixels[inside], axis=0)

    # Where it lies, how far it reaches, and how much of its box it fills
    rows, columns = (np.flatnonzero(inside.sum(axis) > 1) for axis in (1, 0))
    if not len(rows) or not len(columns):
        rows = columns = np.arange(side)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    box = cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return {
        "shape": _shape(box),
        "colour": _nearest(COLOURS, colour),
        "size": "small" if max(height, width) / side < SMALL_TO_LARGE else "large",
        "position": _position((columns[0] + columns[-1] + 1) / 2 / side),
        "ground": _nearest(GROUNDS, ground),
    }


def _shape(box: npt.NDArray[np.float64]) -> str:
    """By the share of its box that it fills, in all, in the corners and in the upper corners."""
    fill = box.mean()
    high, wide = (max(1, round(0.2 * n)) for n in box.shape)
    upper = (box[:high, :wide].mean() + box[:high, -wide:].mean()) / 2
    lower = (box[-high:, :wide].mean() + box[-high:, -wide:].mean()) / 2
    if upper > 0.7 and lower > 0.7:
        return "square"
    if lower - upper > 0.25:
        return "triangle"
    return "circle" if fill > 0.68 else "cross"


def _position(centre: float) -> str:
    return "left" if centre < 0.4 else "middle" if centre < 0.6 else "right"


def _nearest(palette: Mapping[str, tuple[int, ...]], colour: npt.NDArray[np.float64]) -> str:
    return min(palette, key=lambda name: float(np.linalg.norm(colour - palette[name])))
