"""What the stages ask of models and people. Anything callable with these arguments will do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image


class CropScorer(Protocol):
    """Says how well each crop shows what the caption tells."""

    def __call__(self, crops: Sequence[Image.Image], caption: str, /) -> Sequence[float]:
        """A number for each of the crops; the highest wins."""
        ...


class Captioner(Protocol):
    """Describes images."""

    def __call__(self, images: Sequence[Image.Image], /) -> Sequence[str]:
        """A caption for each image; empty where it has none to give."""
        ...


class PromptProvider(Protocol):
    """Invents prompts."""

    def __call__(self, start: int, count: int, /) -> Sequence[str]:
        """Prompts number ``start`` to ``start + count``; fewer where it has no more."""
        ...


class Generator(Protocol):
    """Draws images."""

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int], /) -> Sequence[Image.Image]:
        """An image for each prompt, made from its seed alone."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """``keep`` is None where nobody has decided; ``caption`` is the corrected one."""

    keep: bool | None
    caption: str


class Curator(Protocol):
    """Decides which pairs stay, and corrects captions."""

    def __call__(self, key: str, image: Image.Image, caption: str, /) -> Decision:
        """What becomes of this pair."""
        ...
