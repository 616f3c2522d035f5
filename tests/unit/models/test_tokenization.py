from __future__ import annotations

import json

import numpy as np
import pytest

from edgefusion.models.tokenization import HashingTokenizer, clip_tokenizer
from edgefusion.runtime.errors import InputError


def test_hashing_is_stable_and_framed() -> None:
    tokens = HashingTokenizer(512, 8)("A red, RED boat")
    assert tokens.ids.shape == (1, 8)
    assert tokens.ids.dtype == np.int64
    row = tokens.ids[0].tolist()
    assert row[0] == 510
    assert row[6:] == [511, 511]
    assert row[2] == row[4], "the same word is the same token"
    assert all(0 <= token < 510 for token in row[1:6])
    assert tokens.dropped == 0
    assert row == HashingTokenizer(512, 8)("a Red , red boat").ids[0].tolist()


def test_hashing_counts_what_it_cuts() -> None:
    tokens = HashingTokenizer(512, 8)(" ".join("abcdefghij"))
    assert tokens.ids[0, -1] == 511
    assert tokens.dropped == 4


def vocabulary() -> dict[str, bytes]:
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b"]
    ids = {word: i for i, word in enumerate(words)}
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    return {
        "vocab.json": json.dumps(ids).encode(),
        "merges.txt": b"#version: 0.2\n",
        "tokenizer_config.json": json.dumps(special).encode(),
    }


def test_clip_tokenizer_pads_and_cuts() -> None:
    tokenizer = clip_tokenizer(vocabulary(), 6)
    assert tokenizer("a b").ids.tolist() == [[0, 2, 3, 1, 1, 1]]
    cut = tokenizer("a b a b a b")
    assert cut.ids.tolist() == [[0, 2, 3, 2, 3, 1]]
    assert cut.dropped == 2


def test_damaged_tokenizers_are_refused() -> None:
    with pytest.raises(InputError, match="tokenizer"):
        clip_tokenizer({"vocab.json": b"{"}, 6)


def test_files_stay_in_their_folder() -> None:
    with pytest.raises(InputError, match="expected a name"):
        clip_tokenizer({"../vocab.json": b"{}"}, 77)
