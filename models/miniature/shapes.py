"""Pictures of one coloured shape on a plain ground, with captions that tell what they show.

A scene is drawn from a seed and an index alone, so a dataset of any length takes no space. Colours
vary a little, positions and sizes within their class, and edges are antialiased.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

SIDE_PX = 32
Image = npt.NDArray[np.uint8]

COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (220, 40, 40),
        "green": (40, 170, 60),
        "blue": (45, 80, 220),
        "yellow": (235, 210, 50),
        "purple": (150, 60, 180),
        "white": (240, 240, 240),
    }
)
GROUNDS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {"black": (20, 20, 20), "blue": (45, 80, 220), "grey": (128, 128, 128), "white": (240,) * 3}
)
_CENTRES: Mapping[str, float] = MappingProxyType({"left": 0.3, "middle": 0.5, "right": 0.7})
_RADII: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"small": (0.13, 0.16), "large": (0.24, 0.28)}
)
MIDDLE = "middle"
"""Where a shape is whose caption does not say: what a caption leaves out is the usual."""
_COLOUR_JITTER = 14.0
_PLACE_JITTER = 0.025

Field = npt.NDArray[np.float64]


def _circle(x: Field, y: Field) -> Field:
    return np.hypot(x, y) - 1.0


def _square(x: Field, y: Field) -> Field:
    return np.maximum(abs(x), abs(y)) - 0.88


def _triangle(x: Field, y: Field) -> Field:
    return np.maximum(y - 0.7, (2 * abs(x) - y - 1.1) / math.sqrt(5.0))


def _cross(x: Field, y: Field) -> Field:
    near, far = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    return np.maximum(near - 0.36, far - 1.0)


SHAPES: Mapping[str, Callable[[Field, Field], Field]] = MappingProxyType(
    {"circle": _circle, "square": _square, "triangle": _triangle, "cross": _cross}
)
"""Distances to the edge, in radii, negative inside."""

ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "shape": tuple(SHAPES),
        "colour": tuple(COLOURS),
        "size": tuple(_RADII),
        "position": tuple(_CENTRES),
        "ground": tuple(GROUNDS),
    }
)
"""What there is to tell of a scene, and the words for it."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A word for each attribute; the shape's colour is never its ground's."""

    shape: str
    colour: str
    size: str
    position: str
    ground: str

    def labels(self) -> tuple[int, ...]:
        """The words' numbers, in the order of ``ATTRIBUTES``."""
        return tuple(words.index(getattr(self, name)) for name, words in ATTRIBUTES.items())

    @classmethod
    def of_labels(cls, labels: npt.ArrayLike) -> Scene:
        """The scene with these numbers."""
        numbers = np.asarray(labels).tolist()
        return cls(*(words[n] for words, n in zip(ATTRIBUTES.values(), numbers, strict=True)))


def random_scene(rng: np.random.Generator) -> Scene:
    """All words equally likely, except for grounds of the shape's colour."""
    shape, colour, size, position = (
        str(rng.choice(ATTRIBUTES[name])) for name in ("shape", "colour", "size", "position")
    )
    grounds = [ground for ground in GROUNDS if ground != colour]
    return Scene(shape, colour, size, position, str(rng.choice(grounds)))


def caption(scene: Scene, *, with_position: bool = True) -> str:
    """Such as "a small red circle on the left on blue"."""
    place = "in the" if scene.position == MIDDLE else "on the"
    where = f" {place} {scene.position}" if with_position else ""
    return f"a {scene.size} {scene.colour} {scene.shape}{where} on {scene.ground}"


def told(text: str) -> Mapping[str, str]:
    """The attributes that a caption of ours tells, by name; those it leaves open are missing."""
    words = text.split()
    ground = words[-1] if len(words) > 1 and words[-2] == "on" else ""
    found = {"ground": ground} if ground in GROUNDS else {}
    for name in ("shape", "colour", "size", "position"):
        rest = words[:-1] if ground else words
        if named := [word for word in rest if word in ATTRIBUTES[name]]:
            found[name] = named[0]
    return found


def cover(shape: str, x: Field, y: Field, radius: float, side_px: int) -> Field:
    """The share of each pixel that a shape covers; ``x``, ``y`` of pixels from its centre, and
    ``radius``, in sides of a picture of ``side_px``."""
    distance_px = SHAPES[shape](x / radius, y / radius) * radius * side_px
    return np.clip(0.5 - distance_px, 0.0, 1.0)


def picture(scene: Scene, rng: np.random.Generator, side_px: int = SIDE_PX) -> Image:
    """The scene as bytes [side, side, 3]."""
    ramp = (np.arange(side_px) + 0.5) / side_px
    x, y = np.meshgrid(ramp, ramp)
    low, high = _RADII[scene.size]
    radius = rng.uniform(low, high)
    dx, dy = rng.uniform(-_PLACE_JITTER, _PLACE_JITTER, 2)
    centre = _CENTRES[scene.position]
    covered = cover(scene.shape, x - centre - dx, y - 0.5 - dy, radius, side_px)[..., None]
    paint, ground = (
        np.array(colour) + rng.normal(0, _COLOUR_JITTER, 3)
        for colour in (COLOURS[scene.colour], GROUNDS[scene.ground])
    )
    mixed: Image = (
        np.clip(covered * paint + (1 - covered) * ground, 0, 255).round().astype(np.uint8)
    )
    return mixed


def generator(seed: int, index: int) -> np.random.Generator:
    """Random numbers of sample ``index`` of the data with ``seed``."""
    return np.random.default_rng((seed, index))


def sample(seed: int, index: int) -> tuple[Scene, Image]:
    """A random scene and its picture."""
    rng = generator(seed, index)
    scene = random_scene(rng)
    return scene, picture(scene, rng)
