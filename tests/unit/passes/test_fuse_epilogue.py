"""fuse-epilogue: bias, additions and activations in the order of the source, and refusals."""

from __future__ import annotations

import pytest

from edgefusion.passes.channels_last import ChannelsLast
from edgefusion.passes.fuse_epilogue import FuseEpilogue
from edgefusion.passes.fuse_gelu import FuseGelu
from edgefusion.passes.fuse_group_norm import FuseGroupNorm
from edgefusion.passes.fuse_silu import FuseSilu
from edgefusion.runtime.functions import UNARY
from tests.function_reference import OF_ALL_NUMBERS, SCALARS, source
from tests.graph_cases import Outcome
from tests.layout_cases import chained, reasons

TOKENS = "g (float[1, 6, 8] x) => (float[1, 6, 8] y)"
IMAGE = "g (float[1, 8, 6, 4] x) => (float[1, 8, 6, 4] y)"
WEIGHTS = {"w": (8, 8), "w2": (8, 8), "b": (8,), "k": (8, 8, 3, 3), "k2": (8, 8, 1, 1)}
WEIGHTS["table"] = (1, 6, 4, 8)

CONV = "Conv<pads = [1, 1, 1, 1]>"


def fused(text: str) -> Outcome:
    return chained([FuseSilu(), FuseGelu(), ChannelsLast(), FuseEpilogue()], text, WEIGHTS)


def compute(outcome: Outcome) -> list[str]:
    return [op for op in outcome.ops if op not in ("Transpose", "Reshape")]


@pytest.mark.parametrize(
    ("body", "op"),
    [
        ("m = MatMul(x, w) y = Add(m, b)", "MatMul_bias"),
        ("m = MatMul(x, w) y = Add(b, m)", "MatMul_bias"),
        ("m = MatMul(x, w) a = Add(m, b) y = Add(x, a)", "MatMul_bias_add"),
        ("m = MatMul(x, w) a = Add(m, x) y = Add(a, b)", "MatMul_add_add"),
        ("m = MatMul(x, w) y = Add(m, one)", "MatMul_bias"),
        ("m = MatMul(x, w) a = Add(m, x) y = Relu(a)", "MatMul_add_relu"),
        ("m = MatMul(x, w) a = Relu(m) y = Add(a, x)", "MatMul_relu_add"),
    ],
)
def test_matmul_epilogues_in_source_order(body: str, op: str) -> None:
    assert fused(f"{TOKENS} <float one = {{1}}> {{ {body} }}").ops == [op]


@pytest.mark.parametrize("name", OF_ALL_NUMBERS)
def test_every_function_goes_into_a_matmul_and_a_convolution(name: str) -> None:
    outcome = fused(f"{TOKENS} <{SCALARS}> {{ m = MatMul(x, w) {source(name)} }}")
    assert outcome.ops == [f"MatMul_{UNARY[name].token}"]
    outcome = fused(f"{IMAGE} <{SCALARS}> {{ m = {CONV}(x, k) {source(name)} }}")
    assert compute(outcome) == [f"ConvLast_{UNARY[name].token}"]


@pytest.mark.parametrize("op", ["Clip(m, zero, one)", "Clip(m, zero)", "HardSigmoid(m)"])
def test_other_settings_are_another_function(op: str) -> None:
    scalars = "float zero = {0}, float one = {1}"
    outcome = fused(f"{TOKENS} <{scalars}> {{ m = MatMul(x, w) y = {op} }}")
    assert outcome.ops == ["MatMul", op.partition("(")[0]]


def test_conv_bias_embedding_residual_activation() -> None:
    outcome = fused(
        "g (float[1, 8, 6, 4] x, float[1, 8] t) => (float[1, 8, 6, 4] y) <int64[2] a = {2, 3}> "
        f"{{ c = {CONV}(x, k, b) e = Unsqueeze(t, a) d = Add(c, e) f = Add(d, x) "
        "s = Sigmoid(f) y = Mul(f, s) }"
    )
    assert compute(outcome) == ["ConvLast_bias_add_add_silu"]


@pytest.mark.parametrize("order", ["p, q", "q, p"])
def test_residual_of_two_convolutions_goes_into_the_later(order: str) -> None:
    outcome = fused(f"{IMAGE} {{ p = {CONV}(x, k) q = Conv(x, k2) y = Add({order}) }}")
    assert compute(outcome) == ["ConvLast", "ConvLast_add"]
    later = next(node for node in outcome.graph.nodes if node.op == "ConvLast_add")
    assert later.origin == ("Conv_q", "Add_y")


def test_addition_moves_above_a_view() -> None:
    outcome = fused(
        "g (float[1, 24, 8] x, float[1, 6, 4, 8] r) => (float[1, 6, 4, 8] y) "
        "<int64[4] s = {1, 6, 4, 8}> { m = MatMul(x, w) v = Reshape(m, s) y = Add(v, r) }"
    )
    assert outcome.ops == ["Reshape", "MatMul_add", "Reshape"]


def test_a_constant_moves_above_a_view_and_stays_one() -> None:
    outcome = fused(
        "g (float[1, 24, 8] x) => (float[1, 6, 4, 8] y) <int64[4] s = {1, 6, 4, 8}> "
        "{ m = MatMul(x, w) v = Reshape(m, s) y = Add(v, table) }"
    )
    assert outcome.ops == ["MatMul_add", "Reshape"]


def test_vector_and_activation_above_a_view() -> None:
    outcome = fused(
        "g (float[1, 24, 8] x) => (float[1, 6, 4, 8] y) <int64[4] s = {1, 6, 4, 8}> "
        "{ m = MatMul(x, w) v = Reshape(m, s) a = Add(v, b) y = Relu(a) }"
    )
    assert outcome.ops == ["MatMul_bias_relu", "Reshape"]


def test_silu_goes_into_group_norm() -> None:
    outcome = chained(
        [FuseGroupNorm(), FuseSilu(), ChannelsLast(), FuseEpilogue()],
        f"{IMAGE} <int64[3] grouped = {{1, 2, 96}}, int64[4] image = {{1, 8, 6, 4}}, "
        "float[2] one = {1, 1}, float[2] nil = {0, 0}> "
        "{ i = Reshape(x, grouped) n = InstanceNormalization<epsilon = 0.00001>(i, one, nil) "
        "r = Reshape(n, image) m = Mul(r, gamma) f = Add(m, beta) s = Sigmoid(f) y = Mul(f, s) }",
        {"gamma": (8, 1, 1), "beta": (8, 1, 1)},
    )
    assert compute(outcome) == ["GroupNormLast_silu"]


def test_equal_activations_are_computed_once() -> None:
    outcome = fused(
        "g (float[1, 6, 8] x) => (float[1, 6, 8] y, float[1, 6, 8] z) "
        "{ m = MatMul(x, w) r = Relu(m) q = Relu(m) y = MatMul(r, w2) z = MatMul(q, w) }"
    )
    assert compute(outcome) == ["MatMul_relu", "MatMul", "MatMul"]


def test_equal_operators_with_other_settings_are_not() -> None:
    outcome = fused(
        "g (float[1, 6, 8] x) => (float[1, 6, 8] y, float[1, 6, 8] z) "
        "<float nil = {0}, float one = {1}, float six = {6}> { r = Clip(x, nil, six) "
        "p = Clip(x, nil, six) q = Clip(x, nil, one) s = Add(r, p) y = MatMul(s, w) "
        "z = MatMul(q, w2) }"
    )
    assert compute(outcome) == ["Clip", "Clip", "Add", "MatMul", "MatMul"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            (
                "g (float[1, 6, 8] x) => (float[1, 6, 8] y, float[1, 6, 8] z) "
                "{ m = MatMul(x, w) y = Add(m, x) z = Exp(m) }"
            ),
            "wanted without this step",
        ),
        (
            (
                "g (float[1, 6, 8] x) => (float[1, 6, 8] y, float[1, 6, 8] m) "
                "{ m = MatMul(x, w) y = Relu(m) }"
            ),
            "wanted without this step",
        ),
        (
            (
                "g (float[1, 6, 8] x, float[4, 6, 8] r) => (float[4, 6, 8] y) "
                "{ m = MatMul(x, w) y = Add(m, r) }"
            ),
            "another shape",
        ),
        (
            (
                "g (float[1, 6, 8] x, float[1, 6, 1] r) => (float[1, 6, 8] y) "
                "{ m = MatMul(x, w) y = Add(m, r) }"
            ),
            "neither a vector of channels",
        ),
    ],
)
def test_near_matches_are_refused(text: str, reason: str) -> None:
    outcome = fused(text)
    assert not outcome.record.changed
    assert any(reason in text for text in reasons(outcome, "missed"))


def test_sum_with_itself_and_activation_products_are_left() -> None:
    outcome = fused(f"{TOKENS} {{ m = MatMul(x, w) y = Add(m, m) }}")
    assert outcome.ops == ["MatMul", "Add"]
    outcome = fused("g (float[1, 8, 8] x) => (float[1, 8, 8] y) { m = MatMul(x, x) y = Add(m, b) }")
    assert outcome.ops == ["MatMul", "Add"]
