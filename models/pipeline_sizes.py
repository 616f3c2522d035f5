"""Sizes that the parts of a pipeline folder share, read from their configurations alone.

The U-Net decides the latent's size, not the image decoder's own ``sample_size``, which is that of
the images it was trained on. The text encoder and its tokenizer decide how long a prompt is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from edgefusion.models.folder_index import FOLDERS, json_object

CONTEXT_TOKENS = 77
"""CLIP's context length, where no text encoder says another."""
_NO_LENGTH = 10**9


@dataclass(frozen=True, slots=True)
class Sizes:
    """``latent`` is (height, width); None where each network's own configuration decides."""

    latent: tuple[int, int] | None = None
    context_tokens: int = CONTEXT_TOKENS


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file. Raises InputError for anything else."""
    if not path.exists():
        return {}
    return json_object(
        path, "Expected a JSON file as save_pretrained writes it. Download it again."
    )


def pair(value: object) -> tuple[int, int] | None:
    """A side, or (height, width), as a pair of positive whole numbers; None for anything else."""
    sides = [side for side in _sides(value) if is_count(side)]
    return (sides[0], sides[1]) if len(sides) == len(_sides(value)) == 2 else None


def _sides(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value, value]


def sizes_of_folder(folder: Path, components: Collection[str]) -> Sizes:
    """What the configurations of ``components`` and the tokenizer say; values that make no sense
    count as absent."""
    latent = None
    if "unet" in components:
        latent = pair(read_config(folder / FOLDERS["unet"] / "config.json").get("sample_size"))
    if "text_encoder" not in components:
        return Sizes(latent)
    config = read_config(folder / FOLDERS["text_encoder"] / "config.json")
    lengths = [config.get("max_position_embeddings", CONTEXT_TOKENS), longest_prompt(folder)]
    return Sizes(latent, min((n for n in lengths if is_count(n)), default=CONTEXT_TOKENS))


def longest_prompt(folder: Path) -> object:
    """The tokenizer's ``model_max_length``: tokens of a prompt; None where it states none."""
    found = read_config(folder / "tokenizer" / "tokenizer_config.json").get("model_max_length")
    # transformers writes 10^30 for none.
    return None if isinstance(found, int) and found > _NO_LENGTH else found


def is_count(value: object) -> TypeGuard[int]:
    """Whether ``value`` is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
