"""Legality rules: each refuses what it says, and SUPPORTED_OPS.md says what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefusion.compiler.frontend import legality_rules
from edgefusion.compiler.frontend.legality import SUPPORTED, refusal
from edgefusion.compiler.frontend.nodes import CONVERT
from edgefusion.compiler.frontend.supported_ops import supported_ops_markdown
from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.ops.kinds import KINDS
from edgefusion.passes.channels_last import ChannelsLast
from tests.graph_cases import CONTEXT, Weights, parse

WEIGHTS: Weights = {
    "w": (8, 8, 3, 3),
    "w3": (8, 8, 3, 3, 3),
    "k": (8, 4),
    "g": (8,),
    "infinite": np.full((1, 8), -np.inf, np.float32),
}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[2, 8, 6, 4] x) => (float[2, 8, 4, 2] y) { y = Conv(x, w) }", "batch size is 2"),
        (
            "g (float[1, 8, 6, 6, 6] x) => (float[1, 8, 4, 4, 4] y) { y = Conv(x, w3) }",
            "3 spatial axes",
        ),
        (
            (
                "g (float[1, 8, 6, 4] x, float[8, 8, 3, 3] v) => (float[1, 8, 4, 2] y) "
                "{ y = Conv(x, v) }"
            ),
            "computed at run time",
        ),
        (
            (
                "g (float[1, 8, 6, 4] x) => (float[1, 8, 10, 8] y) "
                "{ y = Conv<pads = [3, 3, 3, 3]>(x, w) }"
            ),
            "exceeds its kernel's reach [3, 3]",
        ),
        (
            (
                "g (float[1, 8, 6, 4] x) => (float[1, 8, 23, 15] y) "
                "{ y = ConvTranspose<strides = [4, 4]>(x, w) }"
            ),
            "its kernel [3, 3] is shorter than its stride [4, 4]",
        ),
        (
            (
                "g (float[1, 8, 6, 4] x) => (float[1, 8, 14, 10] y) "
                "{ y = ConvTranspose<strides = [2, 2], output_padding = [1, 1]>(x, w) }"
            ),
            "output_padding [1, 1] exceeds the padding after it, [0, 0]",
        ),
        ("g (int64[1, 8] x) => (int64[1, 8] y) { y = Add(x, x) }", "holds int64 values"),
        ("g (float[2, 1, 2, 2, 2] x) => (float[2, 1, 2, 2, 2] y) { y = Relu(x) }", "four axes"),
        ("g (float[2, 8] x) => (float[2, 8] y) { y = Sin(x) }", "the NPU has no Sin"),
        ("g (float[8, 2] x) => (float[8, 2] y) { y = Softmax<axis = 0>(x) }", "along axis 0"),
        ("g (float[2, 8] x) => (float[2, 8] y) { y = Sum(x, x, x) }", "the NPU has no Sum"),
        ("g (float[2, 8] x) => (float[2, 8] y) { y = Max(x, x, x) }", "3 operands"),
        (
            "g (float[2, 3, 8] x, float[2, 1, 8] z) => (float[2, 3, 8] y) { y = Add(x, z) }",
            "repeats along inner axes",
        ),
        (
            "g (float[4, 8] x) => (float[8, 8] y) { y = MatMul(k2, x) }",
            "left operand is a constant",
        ),
        (
            "g (float[2, 3, 8] x, float[8, 4] z) => (float[2, 3, 4] y) { y = MatMul(x, z) }",
            "need broadcasting",
        ),
        (
            "g (float[2, 8] x) => (float[3, 8] y) { y = Concat<axis = 0>(x, infinite) }",
            "holds infinities",
        ),
        ("g (float[2, 8] x) => (float[2, 8] y) { y = Add(x, infinite) }", "holds infinities"),
        ("g (float[2, 8] x) => (float[1, 8] y) { y = Relu(x1) }", "computes on constants only"),
        (
            (
                "g (float[2, 8] x) => (float[2, 8] y) "
                "{ y = LayerNormalization<stash_type = 10>(x, g) }"
            ),
            "its stash_type is 10",
        ),
        ("g (float[2, 8] x) => (float[16] y) { y = Flatten<axis = 0>(x) }", "shows 'x', an input"),
        (
            "g (float[2, 8] x) => (float[1, 32] y) { a = Flatten(k) y = Flatten<axis = 0>(a) }",
            "shows 'k', a constant",
        ),
        (
            (
                "g (float[4, 8] x) => (float[4, 8] y) <int64[1] f = {3}, int64[1] t = {-9}, "
                "int64[1] a = {0}, int64[1] s = {-1}> { y = Slice(x, f, t, a, s) }"
            ),
            "steps backwards",
        ),
        (
            (
                "g (float[4, 3, 8] x) => (float[4, 1, 8] y) <int64[1] a = {1}> "
                "{ y = ReduceMean(x, a) }"
            ),
            "the batch size is 4",
        ),
        (
            (
                "g (float[4, 3, 8] x) => (float[1, 3, 8] y) <int64[1] a = {0}> "
                "{ y = ReduceMean(x, a) }"
            ),
            "reduces axes [0] of 3",
        ),
        (
            "g (float[2, 8] x) => (float[2, 8] y) <float h = {1}> { y = Clip(x, , h) }",
            "min = 0, max = 6",
        ),
        ("g (float[2, 8] x) => (float[2, 8] y) { y = HardSigmoid(x) }", "alpha = 0.166667"),
    ],
)
def test_rules_refuse_with_a_reason(text: str, reason: str) -> None:
    graph = Graph.from_model(parse(text, {**WEIGHTS, "k2": (8, 4), "x1": (1, 8)}))
    ChannelsLast().run(graph, CONTEXT)
    found = [refusal(node) for node in graph.nodes]
    assert any(reason in text for text in found), found


@pytest.mark.parametrize(
    "text",
    [
        (
            "g (float[1, 8, 6, 4] x) => (float[1, 8, 3, 2] y) "
            "{ y = Conv<pads = [2, 2, 2, 2], strides = [2, 2], dilations = [2, 2]>(x, w) }"
        ),
        (
            "g (float[1, 8, 6, 4] x) => (float[1, 8, 12, 8] y) { y = ConvTranspose"
            "<strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]>(x, w) }"
        ),
        "g (float[2, 3, 8] x) => (float[2, 3, 4] y) { y = MatMul(x, k) }",
        (
            "g (float[2, 3, 8] x) => (float[2, 3, 3] y) "
            "{ t = Transpose<perm = [0, 2, 1]>(x) y = MatMul(x, t) }"
        ),
        "g (float[1, 1, 1, 2, 2, 2] x) => (float[1, 1, 1, 2, 2, 2] y) { y = Relu(x) }",
        "g (float[2, 3, 8] x) => (float[2, 3, 8] y) { y = LayerNormalization(x, g, g) }",
        "g (float[2, 3, 8] x, float[2, 3, 1] z) => (float[2, 3, 8] y) { y = Mul(x, z) }",
    ],
)
def test_what_the_npu_runs_is_admitted(text: str) -> None:
    graph = Graph.from_model(parse(text, WEIGHTS))
    ChannelsLast().run(graph, CONTEXT)
    assert [refusal(node) for node in graph.nodes] == [""] * len(graph.nodes)


def test_every_supported_op_has_a_conversion_and_a_kind() -> None:
    for op, support in SUPPORTED.items():
        assert support.kind in KINDS
        if legality_rules.channels_last_only not in support.rules:
            assert kind_and_tokens(op)[0] in CONVERT
    assert set(CONVERT) <= set(SUPPORTED)


def test_supported_ops_file_is_current(repository_root: Path) -> None:
    path = repository_root / "SUPPORTED_OPS.md"
    assert path.read_text(encoding="utf-8") == supported_ops_markdown(), (
        "write it anew: python -m edgefusion.compiler.frontend.supported_ops > SUPPORTED_OPS.md"
    )
