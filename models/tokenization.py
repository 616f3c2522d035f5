"""Prompts to token ids: a checkpoint's tokenizer from its files, or hashing for random weights.

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


@dataclass(frozen=True, slots=True)
class TokenizerForm:
    """A class of tokenizers of transformers: the ``files`` that it is made of, whether it marks a
    prompt's begin, and whether what pads has a token of its own, the first."""

    class_name: str
    files: str
    marks_begin: bool
    pads_apart: bool

    def marks(self, vocabulary: int) -> Marks:
        """Of prompts whose words are hashed: at the vocabulary's ends, as the class has them."""
        begin = vocabulary - 2 if self.marks_begin else None
        return Marks(begin, vocabulary - 1, 0 if self.pads_apart else vocabulary - 1)


CLIP = TokenizerForm("CLIPTokenizer", "vocab.json and merges.txt, or tokenizer.json", True, False)
T5 = TokenizerForm("T5Tokenizer", "spiece.model, or tokenizer.json", False, True)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a pipeline gives prompts to a text encoder. ``tokens`` is their number; None for as many
    as encoder and tokenizer take. ``lower_case``: in lower case, without spaces around them."""

    form: TokenizerForm = CLIP
    tokens: int | None = None
    lower_case: bool = False

    def prepared(self, prompt: str) -> str:
        """What the tokenizer is given of a prompt."""
        return prompt.lower().strip() if self.lower_case else prompt


AS_CLIP = Reading()
"""How Stable Diffusion's pipelines have prompts read."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Tokens that are no words: a prompt's ``begin``, where it is marked, its ``end``, and ``pad``
    behind that."""

    begin: int | None
    end: int
    pad: int

    def framed(self, ids: list[int], length: int) -> Tokens:
        """``ids`` of words as a prompt of ``length`` tokens; those that do not fit are dropped."""
        before = [] if self.begin is None else [self.begin]
        kept = ids[: length - len(before) - 1]
        row = [*before, *kept, self.end]
        row += [self.pad] * (length - len(row))
        return Tokens(np.array([row], np.int64), len(ids) - len(kept))


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

    The last tokens of the ``vocabulary`` begin and end a prompt, as in CLIP's. The same words give
    the same ids on every machine.
    """

    vocabulary: int
    length: int
    form: TokenizerForm = CLIP

    def __call__(self, prompt: str) -> Tokens:
        """The prompt's tokens."""
        marks = self.form.marks(self.vocabulary)
        first = 1 if self.form.pads_apart else 0
        words = _WORD.findall(prompt.lower())
        ids = [first + _hashed(word) % (self.vocabulary - 2) for word in words]
        return marks.framed(ids, self.length)


@dataclass(frozen=True, slots=True)
class OwnTokenizer:
    """A checkpoint's own tokenizer, of a class of transformers, cut to ``length``."""

    library: Any
    reading: Reading
    marks: Marks
    length: int

    @property
    def vocabulary(self) -> int:
        """Tokens that it may give: all ids are below."""
        return 1 + int(max(self.library.get_vocab().values()))

    def __call__(self, prompt: str) -> Tokens:
        """The prompt's tokens."""
        given = self.reading.prepared(prompt)
        ids = self.library(given, add_special_tokens=False, verbose=False)["input_ids"]
        return self.marks.framed(list(ids), self.length)


def own_tokenizer(reading: Reading, files: Mapping[str, bytes], length: int) -> OwnTokenizer:
    """The tokenizer whose ``files`` (contents by name) a pipeline brings.

    Raises InputError for files that do not make one.
    """
    import transformers

    form = reading.form
    with partial_folder() as folder:
        for name, content in files.items():
            if Path(name).name != name:
                raise InputError(f"the pipeline's tokenizer has a file {name!r}; expected a name.")
            (folder / name).write_bytes(content)
        try:
            made: Any = getattr(transformers, form.class_name)
            library = made.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the library's own errors derive from nothing else
            raise InputError(
                f"the pipeline's tokenizer cannot be loaded: {error}. Expected the files of a "
                f"{form.class_name} ({form.files}). Check the pipeline's folder tokenizer/ and "
                "compile again."
            ) from error
    begin = library.bos_token_id if form.marks_begin else None
    end, pad = library.eos_token_id, library.pad_token_id
    if end is None or (begin is None and form.marks_begin):
        raise InputError(
            "the pipeline's tokenizer has no bos_token or eos_token in its vocabulary, which begin "
            "and end a prompt. Check tokenizer/tokenizer_config.json and compile again."
        )
    return OwnTokenizer(library, reading, Marks(begin, end, end if pad is None else pad), length)


def clip_tokenizer(files: Mapping[str, bytes], length: int) -> OwnTokenizer:
    """As ``own_tokenizer``, of CLIP's form."""
    return own_tokenizer(AS_CLIP, files, length)


def _hashed(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
