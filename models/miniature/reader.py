"""What a picture of one shape on a plain ground shows, by arithmetic: no network reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

from edgefusion.models.miniature.shapes import (
    COLOURS,
    GROUNDS,
    SHAPES,
    SIDE_PX,
    Field,
    cover,
    told,
)

SMALL_TO_LARGE = 0.2
"""Radii in shares of the picture: a small shape's is 0.16 at most, a large one's 0.24 at least."""
_RADII = np.arange(0.12, 0.30, 0.5 / SIDE_PX)
_SHIFTS_PX = (0.0, 0.5)
_PADDED = 2 * SIDE_PX
"""So that circular correlation is plain correlation."""


def read(image: npt.NDArray[np.uint8]) -> dict[str, str]:
    """Shape, colour, size, position and ground of an image, bytes [32, 32, 3]: those of the scene
    that covers most nearly what the image covers, in least squares."""
    pixels = image.astype(float)

    # The ground is what the frame shows; the shape is what differs from it
    frame = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(frame, axis=0)
    distance = np.linalg.norm(pixels - ground, axis=-1)
    covered = np.clip(distance / np.quantile(distance, 0.99), 0, 1)
    shape, radius, centre = _nearest_scene(covered)
    return {
        "shape": shape,
        "colour": _nearest(COLOURS, np.median(pixels[covered > 0.5], axis=0)),
        "size": "small" if radius < SMALL_TO_LARGE else "large",
        "position": "left" if centre < 0.4 else "middle" if centre < 0.6 else "right",
        "ground": _nearest(GROUNDS, ground),
    }


def shares_right(
    captions: Sequence[str], readings: Sequence[Mapping[str, str]]
) -> dict[str, float]:
    """Of each attribute that the captions tell, and of "all": the share of images that show it, by
    what ``read`` found in them."""
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for text, found in zip(captions, readings, strict=True):
        for name, word in told(text).items():
            asked.update((name, "all"))
            if found[name] == word:
                right.update((name, "all"))
    return {name: right[name] / count for name, count in asked.items()}


def _nearest_scene(covered: Field) -> tuple[str, float, float]:
    """Shape, radius and horizontal centre, in shares of the picture."""
    scenes, power, spectra = _scenes()
    found = np.fft.rfft2(covered, (_PADDED, _PADDED)) * spectra.conj()
    error = power[:, None, None] - 2 * np.fft.irfft2(found, (_PADDED, _PADDED))
    number, _, column = np.unravel_index(np.argmin(error), error.shape)
    shape, radius, shift_px = scenes[number]
    moved = (column + SIDE_PX) % _PADDED - SIDE_PX  # columns past the middle are negative ones
    return shape, radius, 0.5 + (moved + shift_px) / SIDE_PX


@cache
def _scenes() -> tuple[list[tuple[str, float, float]], Field, npt.NDArray[np.complex128]]:
    """Every shape of every size in the middle, half a pixel aside or not: what it is, the sum of
    its squares, and its spectrum."""
    ramp = (np.arange(SIDE_PX) + 0.5) / SIDE_PX - 0.5
    scenes, fields = [], []
    for shape, radius, right, down in product(SHAPES, _RADII, _SHIFTS_PX, _SHIFTS_PX):
        x, y = np.meshgrid(ramp - right / SIDE_PX, ramp - down / SIDE_PX)
        scenes.append((shape, float(radius), right))
        fields.append(cover(shape, x, y, radius, SIDE_PX))
    covers = np.stack(fields)
    return scenes, (covers**2).sum((1, 2)), np.fft.rfft2(covers, (_PADDED, _PADDED))


def _nearest(palette: Mapping[str, tuple[int, ...]], colour: Field) -> str:
    return min(palette, key=lambda name: float(np.linalg.norm(colour - palette[name])))
