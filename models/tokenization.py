"""Prompts to token ids: CLIP's tokenizer from a bundle's files, or hashing for random weights.

Presets have random weights and no vocabulary; what their tokens are does not matter, only that the
same prompt always gives the same ones. ``HashingTokenizer`` does that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.partials import partial_folder

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Tokens:
    """``ids``, int64 [1, length], begin and end marks and padding included; ``dropped`` tokens of
    the prompt did not fit."""

    ids: npt.NDArray[np.int64]
    dropped: int


class Tokenizer(Protocol):
    """Anything that turns a prompt into tokens of a fixed number."""

    def __call__(self, prompt: str) -> Tokens:
        """The prompt's tokens."""
        ...


@dataclass(frozen=True, slots=True)
class PromptReader:
    """A tokenizer for each text encoder, by component."""

    tokenizers: Mapping[str, Tokenizer]

    def __call__(self, prompt: str) -> Mapping[str, Tokens]:
        """The prompt's tokens for each text encoder."""
        return {name: tokenizer(prompt) for name, tokenizer in self.tokenizers.items()}


def ids_of(tokens: Mapping[str, Tokens]) -> dict[str, npt.NDArray[np.int64]]:
    """The ids alone, for each text encoder."""
    return {name: each.ids for name, each in tokens.items()}


@dataclass(frozen=True, slots=True)
class HashingTokenizer:
    """Every word (lower case) or mark is one token: sha256 of it modulo the vocabulary.

    The last two tokens of the ``vocabulary`` begin and end a prompt, as in CLIP's; the end mark
    also pads. The same words give the same ids on every machine.
    """

    vocabulary: int
    length: int

    def __call__(self, prompt: str) -> Tokens:
        """The prompt's tokens."""
        begin, end = self.vocabulary - 2, self.vocabulary - 1
        words = _WORD.findall(prompt.lower())
        ids = [_hashed(word) % begin for word in words]
        return _framed(ids, begin, end, end, self.length)


@dataclass(frozen=True, slots=True)
class ClipTokenizer:
    """A checkpoint's own tokenizer (``transformers.CLIPTokenizer``), cut to ``length``."""

    library: Any
    length: int

    @property
    def vocabulary(self) -> int:
        """Tokens that it may give: all ids are below."""
        return 1 + int(max(self.library.get_vocab().values()))

    def __call__(self, prompt: str) -> Tokens:
        """The prompt's tokens."""
        ids = self.library(prompt, add_special_tokens=False, verbose=False)["input_ids"]
        begin, end = self.library.bos_token_id, self.library.eos_token_id
        pad = self.library.pad_token_id
        return _framed(list(ids), begin, end, end if pad is None else pad, self.length)


def clip_tokenizer(files: Mapping[str, bytes], length: int) -> ClipTokenizer:
    """The tokenizer whose ``files`` (contents by name) a pipeline brings.

    Raises InputError for files that do not make one.
    """
    from transformers import CLIPTokenizer

    with partial_folder() as folder:
        for name, content in files.items():
            if Path(name).name != name:
                raise InputError(f"the pipeline's tokenizer has a file {name!r}; expected a name.")
            (folder / name).write_bytes(content)
        try:
            library = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the library's own errors derive from nothing else
            raise InputError(
                f"the pipeline's tokenizer cannot be loaded: {error}. Expected the files of a "
                "CLIPTokenizer (vocab.json and merges.txt, or tokenizer.json). Check the "
                "pipeline's folder tokenizer/ and compile again."
            ) from error
    if library.bos_token_id is None or library.eos_token_id is None:
        raise InputError(
            "the pipeline's tokenizer has no bos_token or eos_token in its vocabulary, which begin "
            "and end a prompt. Check tokenizer/tokenizer_config.json and compile again."
        )
    return ClipTokenizer(library, length)


def _framed(ids: list[int], begin: int, end: int, pad: int, length: int) -> Tokens:
    kept = ids[: length - 2]
    row = [begin, *kept, end]
    row += [pad] * (length - len(row))
    return Tokens(np.array([row], np.int64), len(ids) - len(kept))


def _hashed(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
