"""remove-identities: what changes nothing goes, what only looks so stays."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.passes.remove_identities import RemoveIdentities
from tests.graph_cases import Array, Weights, rewritten, untouched

WEIGHTS: Weights = {
    "same": np.array([2, -1, 4]),
    "flat": np.array([2, 12]),
    "zero": np.array([0]),
    "one": np.array([1]),
    "end": np.array([9]),
    "last": np.array([-1]),
    "minus": np.array([-1]),
    "start": np.array([-9223372036854775807]),
}


def case(op: str) -> str:
    return f"g (float[2, 3, 4] x) => (float[2, 3, 4] y) {{ r = Relu(x) i = {op} y = Neg(i) }}"


def test_empty_operands_of_a_concatenation_go() -> None:
    weights: Weights = {"empty": np.zeros((2, 0, 4), np.float32)}
    outcome = rewritten(RemoveIdentities(), case("Concat<axis = 1>(empty, r, empty)"), weights)
    assert outcome.ops == ["Relu", "Neg"]
    text = case("Concat<axis = 0>(r, x)").replace("float[2, 3, 4] y", "float[4, 3, 4] y")
    assert untouched(RemoveIdentities(), text).ops == ["Relu", "Concat", "Neg"]


@pytest.mark.parametrize(
    "op",
    [
        "Identity(r)",
        "Cast<to = 1>(r)",
        "Reshape(r, same)",
        "Transpose<perm = [0, 1, 2]>(r)",
        "Concat<axis = 1>(r)",
        "Slice(r, zero, end, one, one)",
        "Dropout(r)",
    ],
)
def test_identities_go(op: str) -> None:
    assert rewritten(RemoveIdentities(), case(op), WEIGHTS).ops == ["Relu", "Neg"]


def test_reversal_is_no_identity() -> None:
    text = case("Slice(r, last, start, one, minus)")
    assert untouched(RemoveIdentities(), text, WEIGHTS).ops == ["Relu", "Slice", "Neg"]


@pytest.mark.parametrize(
    ("reader", "ops"),
    [
        ("Div(x, e)", ["Exp", "Div"]),
        ("Mul(e, x)", ["Exp", "Mul"]),
        ("Mul(e, e)", ["Exp", "Expand", "Mul"]),
        ("Mul(e, single)", ["Exp", "Expand", "Mul"]),
        ("MatMul(e, square)", ["Exp", "Expand", "MatMul"]),
    ],
)
def test_what_readers_repeat_themselves_is_not_expanded(reader: str, ops: list[str]) -> None:
    text = (
        "g (float[2, 3, 1] a, float[2, 3, 4] x) => (float[2, 3, 4] y) "
        f"{{ r = Exp(a) e = Expand(r, full) y = {reader} }}"
    )
    weights: Weights = {"full": np.array([2, 3, 4]), "single": (1, 4), "square": (4, 4)}
    if ops[1] == "Expand":
        assert untouched(RemoveIdentities(), text, weights).ops == ops
    else:
        assert rewritten(RemoveIdentities(), text, weights).ops == ops


@pytest.mark.parametrize(
    ("condition", "ops"),
    [
        (np.zeros((3, 1), np.bool_), ["Relu", "Neg"]),
        (np.array([[False], [True], [False]]), ["Relu", "Where", "Neg"]),
        (np.ones((1, 1), np.bool_), ["Relu", "Where", "Neg"]),
    ],
)
def test_a_choice_that_is_always_the_same_goes(condition: Array, ops: list[str]) -> None:
    """As ONNX's Attention guards rows that are masked out; not what would have to be repeated."""
    weights: Weights = {"rows": condition, "nought": np.array([0.5], np.float32)}
    run = rewritten if "Where" not in ops else untouched
    assert run(RemoveIdentities(), case("Where(rows, nought, r)"), weights).ops == ops


def test_results_nobody_reads_go() -> None:
    text = "g (float[2] x) => (float[2] y) { y = Relu(x) a = Neg(x) b = Exp(a) }"
    outcome = rewritten(RemoveIdentities(), text)
    assert outcome.ops == ["Relu"]
    assert outcome.record.matched == 2


def test_transpose_of_equal_axes_stays() -> None:
    text = "g (float[3, 3] x) => (float[3, 3] y) { r = Relu(x) i = Transpose(r) y = Neg(i) }"
    assert untouched(RemoveIdentities(), text).ops == ["Relu", "Transpose", "Neg"]


def test_transpose_that_only_moves_an_axis_of_size_one_but_changes_the_shape_stays() -> None:
    text = "g (float[1, 3] x) => (float[3, 1] y) { i = Transpose(x) y = Neg(i) }"
    assert untouched(RemoveIdentities(), text).ops == ["Transpose", "Neg"]


def test_chain_collapses_in_one_run() -> None:
    text = case("Identity(r)").replace(
        "y = Neg(i)", "j = Identity(i) k = Cast<to = 1>(j) y = Neg(k)"
    )
    assert rewritten(RemoveIdentities(), text, WEIGHTS).ops == ["Relu", "Neg"]


def test_result_of_the_graph_keeps_its_name() -> None:
    text = "g (float[2] x) => (float[2] y) { r = Relu(x) y = Identity(r) }"
    outcome = rewritten(RemoveIdentities(), text)
    assert outcome.ops == ["Relu"]
    assert outcome.graph.outputs[0].name == "y"


def test_value_that_is_a_result_and_is_read() -> None:
    text = "g (float[2] x) => (float[2] y, float[2] z) { r = Relu(x) y = Identity(r) z = Neg(r) }"
    outcome = rewritten(RemoveIdentities(), text)
    assert outcome.ops == ["Relu", "Neg"]


def test_input_that_is_a_result_keeps_its_op() -> None:
    text = "g (float[2] x) => (float[2] y) { y = Identity(x) }"
    assert "names a result" in untouched(RemoveIdentities(), text).missed


def test_two_views_become_one() -> None:
    text = (
        "g (float[2, 3, 4] x) => (float[2, 1, 12] y) "
        "{ r = Reshape(x, flat) i = Unsqueeze(r, one) y = Neg(i) }"
    )
    assert rewritten(RemoveIdentities(merge_views=True), text, WEIGHTS).ops == ["Reshape", "Neg"]
    assert untouched(RemoveIdentities(), text, WEIGHTS).ops == ["Reshape", "Unsqueeze", "Neg"]


def test_view_that_is_shared_stays_for_the_others() -> None:
    text = (
        "g (float[2, 3, 4] x) => (float[2, 1, 12] y, float[2, 12] z) "
        "{ r = Reshape(x, flat) i = Unsqueeze(r, one) y = Neg(i) z = Neg(r) }"
    )
    outcome = rewritten(RemoveIdentities(merge_views=True), text, WEIGHTS)
    assert sorted(outcome.ops) == ["Neg", "Neg", "Reshape", "Reshape"]
