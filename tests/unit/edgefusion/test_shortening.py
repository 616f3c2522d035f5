"""Module paths in less room."""

from __future__ import annotations

from itertools import pairwise

from edgefusion.cli.shortening import shortened

PATHS = [
    f"unet.{side}_blocks.{block}.attentions.{place}.transformer_blocks.0.attn{number}.to_q"
    for side in ("down", "up")
    for block in range(3)
    for place in range(2)
    for number in (1, 2)
]


def test_different_modules_stay_different_as_long_as_there_is_room_for_their_places() -> None:
    for width in range(34, 80):
        short = [shortened(path, width) for path in PATHS]
        assert len(set(short)) == len(PATHS)
        assert all(len(text) <= width for text in short)


def test_what_fits_is_whole_and_more_room_never_shows_less() -> None:
    for path in (*PATHS, "a_name_without_any_dots_in_it", "a..b", ""):
        texts = [shortened(path, width) for width in range(1, len(path) + 3)]
        assert texts[-1] == path
        assert all(len(before) <= len(after) for before, after in pairwise(texts))


def test_places_and_end_stay() -> None:
    path = "up_blocks.0.attentions.1.transformer_blocks.0.attn1"
    assert shortened(path, 36) == "up_blocks.0.atten….1.trans….0.attn1"
    assert shortened(path, 12) == "…" + path[-11:]
