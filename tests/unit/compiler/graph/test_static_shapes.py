"""Shapes that are static once constants are folded, and true words about those that are not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgefusion.compiler.graph.static_shapes import made_static
from edgefusion.runtime.errors import InputError, UnsupportedOpError
from tests.graph_cases import assert_same, execute, parse, random_feeds

IN = "g (float[2, 3, 4] x) =>"


@pytest.mark.parametrize(
    ("text", "ops"),
    [
        ((f"{IN} (float[2, 12] y) {{ s = Shape(x) i = Constant<value_int = 0>() n = Gather(s, i) "
         "a = Constant<value_ints = [0]>() u = Unsqueeze(n, a) m = Constant<value_ints = [-1]>() "
         "t = Concat<axis = 0>(u, m) r = Relu(x) y = Reshape(r, t) }"), ["Relu", "Reshape"]),
        ((f"{IN} (float[2, 3, 4] y) {{ s = Shape(x) n = Size(s) o = Constant<value_int = 1>() "
         "a = Range(o, n, o) m = ReduceMean<keepdims = 1>(x, a) y = Sub(x, m) }"),
         ["ReduceMean", "Sub"]),
        ((f"{IN} (float[4, 6] y) {{ s = Shape<start = 1, end = 2>(x) "
         "t = Constant<value_ints = [2]>() "
         "d = Mul(s, t) f = Constant<value_ints = [4]>() c = Concat<axis = 0>(f, d) "
         "r = Reshape(x, c) y = Neg(r) }"), ["Reshape", "Neg"]),
        ((f"{IN} (float[2, 3, 8] y) {{ s = Shape(x) f = Cast<to = 1>(s) "
         "k = Constant<value_floats = [1.0, 1.0, 2.0]>() m = Mul(f, k) g = Floor(m) "
         "i = Cast<to = 7>(g) y = Resize(x, , , i) }"), ["Resize"]),
        ((f"{IN} (float[2, 3, 4] y) {{ s = Shape(x) c = ConstantOfShape(s) n = NonZero(c) "
         "z = Size(n) e = ConstantOfShape(s) y = Add(x, e) }"), ["Add"]),
        ((f"{IN} (float[] y) {{ m = ReduceSum<keepdims = 0>(x) e = Constant<value_ints = [1]>() "
         "r = Reshape(m, e) s = Shape(m) y = Reshape(r, s) }"),
         ["ReduceSum", "Reshape", "Squeeze"]),
        (f"{IN} (float[2, 3, 4] y) {{ v = MeanVarianceNormalization<axes = [2]>(x) y = Neg(v) }}",
         ["ReduceMean", "Pow", "Pow", "ReduceMean", "Sub", "Sqrt", "Sub", "Add", "Div", "Neg"]),
    ],
)  # fmt: skip
def test_chains_of_shapes_fold(text: str, ops: list[str]) -> None:
    model = parse(text)
    made = made_static(model)
    assert [node.op_type for node in made.graph.node] == ops
    assert_same(execute(made, random_feeds(model)), execute(model, random_feeds(model)))


BRANCH = (
    "then_branch = t () => (float[2, 3, 4] o) { a = Neg(x) o = Mul(a, x) }, "
    "else_branch = e () => (float[2, 3, 4] o) { o = Relu(x) }"
)


@pytest.mark.parametrize(("value", "ops"), [(1, ["Neg", "Mul"]), (0, ["Relu"])])
def test_branches_whose_condition_is_known_are_taken(value: int, ops: list[str]) -> None:
    model = parse(
        f"{IN} (float[2, 3, 4] y) {{ s = Shape(x) i = Constant<value_int = 0>() n = Gather(s, i) "
        f"k = Constant<value_int = {1 + value}>() c = Equal(n, k) p = If (c) <{BRANCH}> "
        f"q = If (c) <{BRANCH}> y = Add(p, q) }}"
    )
    made = made_static(model)
    found = [node.op_type for node in made.graph.node if node.op_type != "Identity"]
    assert found == [*ops, *ops, "Add"]
    assert_same(execute(made, random_feeds(model)), execute(model, random_feeds(model)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g (float[4] x) => (float[1, n] y) { i = NonZero(x) y = Cast<to = 1>(i) }",
         "axis 1 of i, made by NonZero 'n0', depends on values known only at run time"),
        ("g (float[2, 3] x, int64[2] s) => (float[m, n] y) { y = Reshape(x, s) }",
         "made by Reshape 'n0', depends on values"),
        ("g (float[0, 4] x) => (float[0, 4] y) { y = Relu(x) }",
         r"the input 'x' has size 0 \(shape \[0, 4\]\)"),
        (("g (float[2, 4] x) => (float[0, 4] y) { a = Constant<value_ints = [0]>() "
         "y = Slice(x, a, a) }"), "'y', made by Slice 'n1', has size 0"),
        ("g (float[2, 4] x) => (float[3, 4] y) { y = Relu(x) }", "the graph is inconsistent"),
        ("g (float[2, 4] x, float[3, 4] z) => (float[2, 4] y) { y = Add(x, z) }", "inconsistent"),
        ("g (float[2, 4] x) => (float[2, 4] y) { y = Add(x, nothing) }", "which nothing before"),
        ("g (float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }", "fixed input sizes"),
    ],
)  # fmt: skip
def test_refusals_are_true(text: str, message: str) -> None:
    model = parse(text)
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    with pytest.raises(InputError, match=message):
        made_static(model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (("g (float[2] x, bool[1] c) => (float[2] y) { y = If (c) "
         "<then_branch = t () => (float[2] o) { o = Neg(x) }, "
         "else_branch = e () => (float[2] o) { o = Relu(x) }> }"),
         "computed at run time"),
        ("g (string[2] x) => (bool[2] y) { y = Equal(x, x) }", "the input 'x' holds strings"),
        ("g (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct(x, x) }",
         "'y'.* is a sequence"),
    ],
)  # fmt: skip
def test_what_is_no_tensor_program_is_refused(text: str, message: str) -> None:
    with pytest.raises(UnsupportedOpError, match=message):
        made_static(parse(text))


def test_tensors_of_size_zero_inside_are_known() -> None:
    empty = onnx.numpy_helper.from_array(np.zeros((2, 0, 4), np.float32), "none")
    model = parse(
        f"{IN} (float[2, 3, 4] y) {{ n = Relu(none) c = Concat<axis = 1>(n, x, none) y = Neg(c) }}"
    )
    model.graph.initializer.append(empty)
    made = made_static(model)
    assert [list(node.input) for node in made.graph.node] == [["x"], ["c"]]
    assert_same(execute(made, random_feeds(model)), execute(model, random_feeds(model)))


def test_names_and_metadata_stay() -> None:
    model = parse(f"{IN} (float[2, 3, 4] y) {{ a = Relu(x) y = Softmax<axis = 1>(a) }}", opset=12)
    for name, node in zip("ns", model.graph.node, strict=True):
        node.name = name
        node.metadata_props.add(key="origin", value=f"block.{name}")
    made = made_static(model)
    assert made.graph.node[0].name == "n"
    for node in made.graph.node[1:]:
        props = {prop.key: prop.value for prop in node.metadata_props}
        assert props == {"origin": "block.s", "edgefusion.origin": '["s"]'}
