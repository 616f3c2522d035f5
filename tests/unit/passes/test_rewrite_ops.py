"""rewrite-ops: every rule gives what ONNX Runtime gives, in ops of the NPU, or says why not."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.compiler.frontend.legality import refusal
from edgefusion.compiler.frontend.supported_ops import WRITTEN_OUT
from edgefusion.passes.rewrite_ops import RULES, RewriteOps
from tests.graph_cases import Weights, rewritten, untouched

WEIGHTS: Weights = {
    "c": (4,),
    "d": (4,),
    "slopes": (4, 1, 1),
    "mean": (4,),
    "variance": np.linspace(0.5, 3.0, 4, dtype=np.float32),
    "two": np.asarray(2.0, np.float32),
    "three": np.asarray(3.0, np.float32),
    "half": np.asarray(0.5, np.float32),
    "low": np.asarray(-0.4, np.float32),
    "high": np.asarray(0.7, np.float32),
    "zero": np.asarray(0.0, np.float32),
    "one": np.asarray(1, np.int64),
    "last": np.asarray(-1, np.int64),
    "rows": np.asarray([-1], np.int64),
    "some": np.asarray([1, 3], np.int64),
    "odd": np.asarray([3, 0, 1], np.int64),
    "spread": np.asarray([2, 3, 4, 6], np.int64),
    "times": np.asarray([2, 1, 3, 1], np.int64),
    "around": np.asarray([0, 0, 1, 2, 0, 0, 0, 3], np.int64),
    "inwards": np.asarray([0, 1, 0, -2, 0, 0, 1, -1], np.int64),
    "mirrored": np.asarray([2, 1, 1, 3], np.int64),
    "ends": np.asarray([2, 3], np.int64),
    "chosen": np.asarray([[True], [False], [True], [True], [False]]),
    "always": np.asarray([True]),
    "huge": np.asarray(1e6, np.float32),
    "infinite": np.asarray(-np.inf, np.float32),
}
IMAGE = "float[2, 4, 5, 6]"


def case(body: str, result: str = IMAGE, given: str = f"{IMAGE} x") -> str:
    return f"g ({given}) => ({result} y) {{ {body} }}"


COMPUTED = {
    "Sum": case("y = Sum(x, c1, x)", given=f"{IMAGE} x, float[4, 1, 6] c1"),
    "Sum of one": case("y = Sum(x)"),
    "Mean": case("y = Mean(x, c1, x, c1)", given=f"{IMAGE} x, float[4, 1, 6] c1"),
    "Max": case("y = Max(x, c1, c2)", given=f"{IMAGE} x, float[6] c1, float[5, 1] c2"),
    "Min of one": case("y = Min(x)"),
    "Neg": case("y = Neg(x)"),
    "Abs": case("y = Abs(x)"),
    "Reciprocal": case("e = Exp(x) y = Reciprocal(e)"),
    "Pow 2": case("y = Pow(x, two)"),
    "Pow 3": case("y = Pow(x, three)"),
    "Pow of a half": case("e = Exp(x) y = Pow(e, half)"),
    "ReduceSumSquare": case("y = ReduceSumSquare(x, ends)", "float[2, 4, 1, 1]"),
    "ReduceL2 of rows": case("y = ReduceL2(x, rows)", "float[2, 4, 5, 1]"),
    "ReduceL2 of rows, the axis dropped": case(
        "y = ReduceL2<keepdims = 0>(x, rows)", "float[2, 4, 5]"
    ),
    "ReduceL2 of images": case("y = ReduceL2(x, ends)", "float[2, 4, 1, 1]"),
    "LpNormalization": case("y = LpNormalization(x)"),
    "LpNormalization of magnitudes": case("y = LpNormalization<axis = 3, p = 1>(x)"),
    "Clip": case("y = Clip(x, low, high)"),
    "Clip above": case("y = Clip(x, , high)"),
    "Clip at nought": case("y = Clip(x, zero)"),
    "LeakyRelu": case("y = LeakyRelu<alpha = 0.2>(x)"),
    "PRelu": case("y = PRelu(x, slopes)"),
    "Elu": case("y = Elu<alpha = 0.7>(x)"),
    "HardSigmoid": case("y = HardSigmoid(x)"),
    "BatchNormalization": case("y = BatchNormalization(x, c, d, mean, variance)"),
    "Where": case("y = Where(chosen, x, c)", "float[2, 4, 5, 4]", "float[2, 4, 5, 4] x"),
    "Where not": case("y = Where(chosen, zero, x)", "float[2, 4, 5, 4]", "float[2, 4, 5, 4] x"),
    "Where always": case("y = Where(always, x, zero)"),
    "InstanceNormalization": case("y = InstanceNormalization<epsilon = 0.01>(x, c, d)"),
    "Gather one": case("y = Gather<axis = -1>(x, last)", "float[2, 4, 5]"),
    "Gather some": case("y = Gather<axis = 2>(x, some)", "float[2, 4, 2, 6]"),
    "Einsum": case('y = Einsum<equation = "abcd -> acdb">(x)', "float[2, 5, 6, 4]"),
    "Expand": case("y = Expand(x, spread)", "float[2, 3, 4, 6]", "float[3, 1, 6] x"),
    "Tile": case("y = Tile(x, times)", "float[4, 4, 15, 6]"),
    "Pad": case("y = Pad(x, around, half)", "float[2, 4, 6, 11]"),
    "Pad and cut": case("y = Pad(x, inwards)", "float[2, 5, 6, 3]"),
    "Pad with edges": case('y = Pad<mode = "edge">(x, mirrored, , ends)', "float[2, 4, 8, 10]"),
    "Pad with mirrors": case(
        'y = Pad<mode = "reflect">(x, mirrored, , ends)', "float[2, 4, 8, 10]"
    ),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_values_stay_and_the_npu_has_all_ops(name: str) -> None:
    outcome = rewritten(RewriteOps(), COMPUTED[name], WEIGHTS)
    assert outcome.record.matched == 1
    lacking = {op for op in outcome.ops if op in RULES} - {"Max", "Min", "Slice"}
    assert not lacking
    refusals = [refusal(node) for node in outcome.graph.nodes]
    assert not any("the NPU has no" in reason for reason in refusals), refusals


SLICES: Weights = {
    "from0": np.asarray([0], np.int64),
    "from4": np.asarray([4], np.int64),
    "but_last": np.asarray([-1], np.int64),
    "end": np.asarray([2**62], np.int64),
    "rows": np.asarray([-2], np.int64),
    "columns": np.asarray([3], np.int64),
    "w": (6, 5),
}
PRODUCT = "float[2, 3, 5, 4] a, float[2, 3, 4, 6] b"


@pytest.mark.parametrize(
    ("axis", "first", "last"),
    [("rows", "float[2, 3, 4, 6]", "float[2, 3, 1, 6]"),
     ("columns", "float[2, 3, 5, 5]", "float[2, 3, 5, 2]")],
)  # fmt: skip
def test_parts_of_a_product_are_products_of_parts(axis: str, first: str, last: str) -> None:
    """As linear attention divides by the last row of one."""
    text = case(
        f"p = MatMul(a, b) y = Slice(p, from0, but_last, {axis}) z = Slice(p, from4, end, {axis})",
        f"{last} z, {first}",
        PRODUCT,
    )
    if axis == "columns":  # 5 and 2 of 6 columns: more than all are read
        assert untouched(RewriteOps(), text, SLICES).ops == ["MatMul", "Slice", "Slice"]
    else:
        assert sorted(rewritten(RewriteOps(), text, SLICES).ops) == [
            *("Identity", "Identity", "MatMul", "MatMul", "Slice", "Slice"),
        ]


@pytest.mark.parametrize(
    "text",
    [
        case("p = MatMul(a, b) y = Slice(p, from0, but_last, rows) z = Neg(y)",
             "float[2, 3, 4, 6] z, float[2, 3, 4, 6]", PRODUCT).replace("Neg(y)", "Exp(p)")
        .replace("float[2, 3, 4, 6] z", "float[2, 3, 5, 6] z"),
        case("p = MatMul(a, w) y = Slice(p, from0, but_last, columns)", "float[2, 3, 4, 4]",
             "float[2, 3, 4, 6] a"),
    ],
)  # fmt: skip
def test_other_products_are_sliced(text: str) -> None:
    """Of one that is read whole, and of one with weights."""
    assert "Slice" in untouched(RewriteOps(), text, SLICES).ops


def test_pixel_shuffle_reorders_the_filters_before_it() -> None:
    body = 'f = Conv(x, w, shift) y = DepthToSpace<blocksize = 2, mode = "CRD">(f)'
    weights = {"w": (12, 4, 3, 3), "shift": (12,)}
    outcome = rewritten(RewriteOps(), case(body, "float[2, 3, 6, 8]"), weights)
    assert outcome.ops == ["Conv", "DepthToSpace"]
    assert outcome.graph.nodes[1].get_str("mode") == "DCR"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (case("e = Exp(x) y = Pow(e, high)"), "exponents up to 4"),
        (case("y = LpNormalization<axis = 1>(x)"), "not along the last axis"),
        (case("e = Exp(x) y = Pow(e, x)"), "not one constant"),
        (case("y = LeakyRelu<alpha = 1.5>(x)"), "slope"),
        (case("y = Gather<axis = 2>(x, odd)", "float[2, 4, 3, 6]"), "equally spaced"),
        (
            case("y = Gather<axis = 3>(x, i)", "float[2, 4, 5, 1]", f"{IMAGE} x, int64[1] i"),
            "not known at compile time",
        ),
        (
            case("y = Expand(x, many)", "float[2, 65, 6]", "float[2, 1, 6] x"),
            "65 copies",
        ),
        (
            case("e = Where(which, x, infinite) y = Softmax(e)", given=f"bool[6] which, {IMAGE} x"),
            "computed",
        ),
        (case("e = Where(chosen, x, huge) y = Tanh(e)", "float[2, 4, 5, 6]"), "does not hold"),
        (case("y = Clip(x, low, huge)"), "does not hold its limits"),
        (case("y = Pad(x, around, huge)", "float[2, 4, 6, 11]"), "does not hold its value"),
        (case('y = Einsum<equation = "abcd->abc">(x)', "float[2, 4, 5]"), "more than move"),
        (case('y = Pad<mode = "wrap">(x, around)', "float[2, 4, 6, 11]"), "mode 'wrap'"),
    ],
)
def test_what_stays_says_why(text: str, reason: str) -> None:
    weights = {**WEIGHTS, "many": np.asarray([2, 65, 6], np.int64)}
    assert reason in untouched(RewriteOps(), text, weights).missed


@pytest.mark.parametrize(
    "text",
    [
        case("y = Max(x, x)"),
        case("y = Clip(x, zero, six)"),
        case("y = Gather(slopes, i)", "float[1, 1, 1]", "int64[1] i"),
        case("y = DepthToSpace<blocksize = 2>(x)", "float[2, 1, 10, 12]"),
    ],
)
def test_what_the_npu_or_the_host_has_stays_without_a_word(text: str) -> None:
    weights = {**WEIGHTS, "six": np.asarray(6.0, np.float32)}
    assert not untouched(RewriteOps(), text, weights).record.remarks


def test_users_are_told_which_ops_have_a_rule() -> None:
    assert sorted(RULES) == WRITTEN_OUT


def test_whole_numbers_stay() -> None:
    text = "g (int64[2, 4] x) => (int64[2, 4] y) { y = Neg(x) }"
    assert untouched(RewriteOps(), text).ops == ["Neg"]
