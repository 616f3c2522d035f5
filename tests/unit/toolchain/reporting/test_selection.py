"""Ops by name, module path and pattern, one meaning for all."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from edgefusion.runtime.errors import UsageError
from edgefusion.toolchain.reporting.selection import select_one_name, select_ops


@dataclass(frozen=True)
class Op:
    component: str
    name: str
    module: str


OPS = (
    Op("text_encoder", "host0", "embeddings"),
    Op("unet", "node_view_4", "down_blocks.0.attentions.0.attn1"),
    Op("unet", "node_add", "down_blocks.0.resnets.0"),
    Op("unet", "node[0]", "down_blocks.10.resnets.0"),
    Op("vae_decoder", "node_view_4", "decoder.mid_block.attentions.0"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node_add", [2]),
        ("unet.node_view_4", [1]),
        ("node_view_4", [1, 4]),
        ("down_blocks.0", [1, 2]),  # and not down_blocks.10
        ("unet.down_blocks.0.resnets.0", [2]),
        ("unet", [1, 2, 3]),
        ("*attn1", [1]),
        ("vae_decoder.*", [4]),
        ("node_*", [1, 2, 4]),
        ("node[0]", [3]),
        ("down_blocks.*.resnets.?", [2, 3]),
    ],
)
def test_what_a_text_means(text: str, expected: list[int]) -> None:
    assert [OPS.index(op) for op in select_ops(OPS, [text])] == expected


def test_several_texts_keep_the_order_of_the_ops_and_none_twice() -> None:
    assert select_ops(OPS, ["node_add", "host0", "down_blocks.0"]) == (OPS[0], OPS[1], OPS[2])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("node_viw_4", "Did you mean node_view_4"),
        ("down_block.0", "down_blocks.0"),
        ("unet.node_ad", "unet.node_add"),
        ("RESNETS", "down_blocks.0.resnets"),
        ("qqqq", "There are 5 ops"),
        ("*qqqq*", "whole names and module paths"),
        ("", "There are 5 ops"),
    ],
)
def test_nothing_of_that_name_is_an_error_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        select_ops(OPS, ["node_add", text])
    assert hint in str(error.value)
    assert repr(text) in str(error.value)


def test_one_name_of_two_ops_is_asked_back() -> None:
    with pytest.raises(UsageError, match=r"unet\.node_view_4.*vae_decoder\.node_view_4.*which"):
        select_one_name(OPS, "node_view_4")
    assert select_one_name(OPS, "unet.node_view_4") == (OPS[1],)
    assert len(select_one_name(OPS, "node_*")) == 3
