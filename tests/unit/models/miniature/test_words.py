from __future__ import annotations

from pathlib import Path

from transformers import CLIPTokenizer

from edgefusion.models.miniature.shapes import caption, generator, random_scene
from edgefusion.models.miniature.words import (
    TOKENS,
    byte_pair_merges,
    tokenizer,
    tokenizer_files,
    vocabulary_size,
    words,
)


def library(folder: Path) -> CLIPTokenizer:
    for name, content in tokenizer_files().items():
        (folder / name).write_bytes(content)
    return CLIPTokenizer.from_pretrained(folder)


def test_every_word_is_one_token(tmp_path: Path) -> None:
    ids = {word: library(tmp_path)(word, add_special_tokens=False)["input_ids"] for word in words()}
    assert {len(found) for found in ids.values()} == {1}
    assert len({found[0] for found in ids.values()}) == len(words())


def test_the_library_reads_captions_as_we_do(tmp_path: Path) -> None:
    theirs = library(tmp_path)
    for index in range(20):
        text = caption(random_scene(generator(0, index)))
        ids = tokenizer()(text).ids[0].tolist()
        assert ids == theirs(text, padding="max_length", max_length=TOKENS)["input_ids"]
        assert theirs.decode(ids, skip_special_tokens=True) == text
        assert (ids[0], ids[-1]) == (vocabulary_size() - 2, vocabulary_size() - 1)


def test_merges_of_words_that_share_parts() -> None:
    assert byte_pair_merges(["ab", "cab"]) == [("a", "b</w>"), ("c", "ab</w>")]
    merged = {left + right for left, right in byte_pair_merges(["red", "green", "on"])}
    assert {"red</w>", "green</w>", "on</w>"} <= merged
