"""How many captions are longer than CLIP's text encoder takes: what lies beyond is never seen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgefusion.models.tokenization import Tokenizer, clip_tokenizer
from edgefusion.runtime.errors import InputError

CLIP_TOKENS = 77
"""What CLIP's text encoder takes, the marks of begin and end included."""


def open_tokenizer(folder: Path) -> Tokenizer:
    """The CLIP tokenizer in a pipeline's ``tokenizer/`` folder or a CLIP model's folder.

    Raises InputError for a folder that has none.
    """
    files = [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.name in _TOKENIZER_FILES
    ]
    if not files:
        raise InputError(
            f"{folder} holds no CLIP tokenizer; expected vocab.json and merges.txt, or "
            "tokenizer.json, as a pipeline's folder tokenizer/ has them."
        )
    return clip_tokenizer({path.name: path.read_bytes() for path in files}, CLIP_TOKENS)


_TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


def captions_cut(captions: Iterable[str], tokenizer: Tokenizer | None) -> int | None:
    """How many of the captions lose their end; None without a tokenizer."""
    if tokenizer is None:
        return None
    return sum(tokenizer(caption).dropped > 0 for caption in captions)
