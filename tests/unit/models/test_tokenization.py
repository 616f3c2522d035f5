from __future__ import annotations

import io
import json

import numpy as np
import pytest
import sentencepiece

from edgefusion.models.tokenization import (
    T5,
    HashingTokenizer,
    Reading,
    clip_tokenizer,
    own_tokenizer,
)
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


def test_hashing_as_t5_has_it_pads_with_a_token_of_its_own() -> None:
    tokens = HashingTokenizer(512, 6, T5)("a red boat")
    row = tokens.ids[0].tolist()
    assert row[3:] == [511, 0, 0]
    assert all(0 < token < 511 for token in row[:3])
    assert HashingTokenizer(512, 3, T5)("a red boat").dropped == 1


def sentence_model() -> bytes:
    """A ``spiece.model`` with T5's marks, of a few words."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red boat on the lake", "the boats are red", "Lakes"] * 9),
        model_writer=made,
        vocab_size=22,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return made.getvalue()


def test_t5_reads_prompts_as_sentencepiece_does() -> None:
    model = sentence_model()
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    tokenizer = own_tokenizer(Reading(T5, lower_case=True), {"spiece.model": model}, 24)
    for prompt in ("a red boat", "  The LAKES\tare red ", "", "boats, 9 lakes"):
        words = theirs.encode(prompt.lower())
        made = tokenizer(prompt)
        assert made.ids[0].tolist() == [*words, 1, *[0] * (23 - len(words))]
        assert made.dropped == 0
    long = " ".join(["red boat"] * 20)
    cut = tokenizer(long)
    assert cut.ids[0].tolist() == [*theirs.encode(long)[:23], 1]
    assert cut.dropped == len(theirs.encode(long)) - 23
    as_written = own_tokenizer(Reading(T5), {"spiece.model": model}, 24)
    assert as_written("Red").ids.tolist() != tokenizer("Red").ids.tolist()


def test_a_damaged_sentence_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"T5Tokenizer \(spiece.model, or tokenizer.json\)"):
        own_tokenizer(Reading(T5), {"spiece.model": b"{"}, 6)


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
