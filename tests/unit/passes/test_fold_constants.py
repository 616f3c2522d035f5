"""fold-constants: what depends on constants only is computed, weights stay unread."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.compiler.graph.weights import DeferredValues
from edgefusion.passes.fold_constants import FoldConstants
from tests.graph_cases import Array, rewritten, untouched


def test_chain_of_constants() -> None:
    outcome = rewritten(
        FoldConstants(),
        "g (float[2, 4] x) => (float[2, 4] y) "
        "{ a = Exp(w) b = Mul(a, w) c = Neg(b) y = Add(x, c) }",
        {"w": (4,)},
    )
    assert outcome.ops == ["Add"]
    assert outcome.record.matched == 3


def test_shape_arithmetic() -> None:
    outcome = rewritten(
        FoldConstants(),
        "g (float[2, 4, 6] x) => (float[2, 24] y) { s = Shape(x) n = Gather<axis = 0>(s, zero) "
        "m = Concat<axis = 0>(n, minus) y = Reshape(x, m) }",
        {"zero": np.array([0]), "minus": np.array([-1])},
    )
    assert outcome.ops == ["Reshape"]


def test_two_results_of_which_one_is_wanted() -> None:
    outcome = rewritten(
        FoldConstants(),
        "g (float[2, 3] x) => (float[2, 3] y) "
        "{ a, b = Split<axis = 0, num_outputs = 2>(w) y = Add(x, b) }",
        {"w": (4, 3)},
    )
    assert outcome.ops == ["Add"]


def test_view_of_a_large_weight_is_computed_when_it_is_read() -> None:
    outcome = rewritten(
        FoldConstants(max_bytes=64),
        "g (float[2, 6] x) => (float[2, 8] y) { t = Transpose(w) y = MatMul(x, t) }",
        {"w": (8, 6)},
    )
    assert outcome.ops == ["MatMul"]
    assert isinstance(outcome.only.inputs[1].lazy, DeferredValues)


def test_view_of_a_view_of_a_large_weight() -> None:
    outcome = rewritten(
        FoldConstants(max_bytes=64),
        "g (float[2, 6] x) => (float[2, 8] y) "
        "{ r = Reshape(w, s) t = Transpose<perm = [1, 0]>(r) y = MatMul(x, t) }",
        {"w": (4, 2, 6), "s": np.array([8, 6])},
    )
    assert outcome.ops == ["MatMul"]


@pytest.mark.parametrize(
    ("bounds", "count"),
    [
        (([2], [1 << 62], [0], [1]), 6),
        (([-1], [-(1 << 62)], [0], [-2]), 4),
        (([-7], [-1], [-2], [3]), 2),
    ],
)
def test_part_of_a_large_weight(bounds: tuple[list[int], ...], count: int) -> None:
    names = ("start", "end", "axis", "step")
    outcome = rewritten(
        FoldConstants(max_bytes=64),
        f"g (float[{count}, 6] x) => (float[{count}, 6] y) "
        f"{{ p = Slice(w, {', '.join(names)}) y = Add(x, p) }}",
        {"w": (8, 6), **dict(zip(names, map(np.asarray, bounds), strict=True))},
    )
    assert outcome.ops == ["Add"]


def test_arithmetic_on_a_large_weight_is_refused() -> None:
    outcome = untouched(
        FoldConstants(max_bytes=64),
        "g (float[2, 6] x) => (float[2, 8] y) { t = Exp(w) y = MatMul(x, t) }",
        {"w": (6, 8)},
    )
    assert "more than 64" in outcome.missed


def test_random_numbers_are_not_constants() -> None:
    outcome = untouched(
        FoldConstants(),
        "g (float[2, 4] x) => (float[2, 4] y) "
        "{ r = RandomNormalLike<seed = 1.0>(w) z = Mul(r, n) y = Add(x, z) }",
        {"w": (2, 4), "n": np.zeros((2, 4), np.float32)},
    )
    assert outcome.ops == ["RandomNormalLike", "Mul", "Add"]


def test_result_of_the_graph_keeps_its_node() -> None:
    text = "g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Exp(w) }"
    assert untouched(FoldConstants(), text, {"w": (2,)}).ops == ["Relu", "Exp"]


@pytest.mark.parametrize(
    "op",
    ["Shape(x)", "Shape<start = 1>(x)", "Shape<start = -2, end = -1>(x)", "Shape<end = 9>(x)"],
)
def test_shapes_are_known_in_parts_too(op: str) -> None:
    text = f"g (float[2, 4, 6] x) => (float[2, 4, 6] y, int64[n] s) {{ s = {op} y = Neg(x) }}"
    assert rewritten(FoldConstants(), text).ops == ["Identity", "Neg"]
    text = f"g (float[2, 4, 6] x) => (float[2, 4, 6] y) {{ s = {op} m = ReduceMax(s) "
    text += "f = Cast<to = 1>(m) y = Mul(x, f) }"
    assert rewritten(FoldConstants(), text).ops == ["Mul"]


def test_size_is_known() -> None:
    text = "g (float[2, 4, 6] x) => (float[2, 4, 6] y) { n = Size(x) f = Cast<to = 1>(n) "
    assert rewritten(FoldConstants(), text + "y = Div(x, f) }").ops == ["Div"]


@pytest.mark.parametrize(
    ("attributes", "scale", "zero"),
    [
        ("", np.array(0.1, np.float32), None),
        ("", np.array(0.1, np.float32), np.array(7, np.uint8)),
        ("<axis = 0>", np.linspace(0.1, 1, 8, dtype=np.float32), None),
        ("<axis = -1>", np.linspace(0.1, 1, 6, dtype=np.float32), np.arange(6, dtype=np.uint8)),
    ],
)
def test_large_quantized_weights_are_dequantized_when_they_are_read(
    attributes: str, scale: Array, zero: Array | None
) -> None:
    weights = {"q": np.arange(48, dtype=np.uint8).reshape(8, 6), "scale": scale}
    operands = "q, scale" if zero is None else "q, scale, zero"
    outcome = rewritten(
        FoldConstants(max_bytes=16),
        "g (float[2, 8] x) => (float[2, 6] y) "
        f"{{ w = DequantizeLinear{attributes}({operands}) y = MatMul(x, w) }}",
        weights if zero is None else {**weights, "zero": zero},
    )
    assert outcome.ops == ["MatMul"]
    assert isinstance(outcome.only.inputs[1].lazy, DeferredValues)


def test_weights_that_training_quantized_are_rounded_when_they_are_read() -> None:
    outcome = rewritten(
        FoldConstants(max_bytes=8),
        "g (float[2, 6] x) => (float[2, 8] y) { q = QuantizeLinear<axis = 1>(w, s, z) "
        "d = DequantizeLinear<axis = 1>(q, s, z) y = MatMul(x, d) }",
        {
            "w": (6, 8),
            "s": np.linspace(0.005, 0.05, 8, dtype=np.float32),  # the smallest saturate
            "z": np.arange(-4, 4, dtype=np.int8),
        },
    )
    assert outcome.ops == ["MatMul"]
