"""A tokenizer of whole words in the file form of CLIP's, made for the captions' few words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from string import ascii_lowercase

from edgefusion.models.miniature.shapes import ATTRIBUTES
from edgefusion.models.tokenization import OwnTokenizer, clip_tokenizer

TOKENS = 77
"""CLIP's context length: what U-Nets are compiled for."""
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
_OTHER_WORDS = ("a", "an", "on", "in", "the", "of", "picture", "drawing", "image", "painting")
_WORD_END = "</w>"


def words() -> tuple[str, ...]:
    """All words that captions are made of, sorted."""
    return tuple(sorted({*_OTHER_WORDS, *(w for group in ATTRIBUTES.values() for w in group)}))


def byte_pair_merges(vocabulary: Sequence[str]) -> list[tuple[str, str]]:
    """Merges, in their order, after which each word of ``vocabulary`` is one token.

    Byte-pair encoding (Sennrich et al., 2016), carried on until nothing is left to merge.
    """
    split = [[*word[:-1], word[-1] + _WORD_END] for word in vocabulary]
    merges = []
    while pairs := Counter(pair for parts in split for pair in pairwise(parts)):
        best = max(sorted(pairs), key=pairs.__getitem__)
        merges.append(best)
        split = [_merged(parts, best) for parts in split]
    return merges


def tokenizer_files() -> dict[str, bytes]:
    """Contents by name of the files that transformers' CLIPTokenizer loads."""
    merges = byte_pair_merges(words())
    letters = [*ascii_lowercase, *(letter + _WORD_END for letter in ascii_lowercase)]
    tokens = dict.fromkeys([*letters, *map("".join, merges), BEGIN, END])
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TOKENS,
        "bos_token": BEGIN,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
    }
    listed = "".join(f"{left} {right}\n" for left, right in merges)
    return {
        "vocab.json": json.dumps({token: i for i, token in enumerate(tokens)}).encode(),
        "merges.txt": f"#version: 0.2\n{listed}".encode(),
        "tokenizer_config.json": json.dumps(settings, indent=1).encode(),
    }


@cache
def tokenizer() -> OwnTokenizer:
    """From the files, as a pipeline's user has it."""
    return clip_tokenizer(tokenizer_files(), TOKENS)


def vocabulary_size() -> int:
    """Tokens, marks of beginning and end included; these are the last two."""
    return len(json.loads(tokenizer_files()["vocab.json"]))


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for part in parts:
        if found and (found[-1], part) == pair:
            found[-1] += part
        else:
            found.append(part)
    return found
