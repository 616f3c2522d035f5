"""Outputs that no op of the NPU makes, types that it does not compute in, and neighbours of what it
runs: whole small graphs, compiled and executed, against ONNX Runtime on the source."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgefusion.compiler.frontend.placement import host_groups
from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.runtime.errors import UnsupportedOpError
from tests.graph_cases import CONTEXT, Weights, execute, parse, random_feeds
from tests.whole_graphs import agrees, on_npu

WEIGHTS: Weights = {
    "w": (4, 4, 3, 3),
    "v": (1, 4, 3, 3),
    "k": (8, 8),
    "k3": (2, 8, 5),
    "c3": (3,),
    "g": (8,),
    "g6": (6, 8),
    "g16": (1, 6, 8),
    "g1": (1,),
    "g61": (6, 1),
    "rows": (6, 8),
    "flat": np.array([6, 8]),
    "any": np.array([-1]),
    "axis1": np.array([1]),
    "axis2": np.array([2]),
    "nought": np.array([0]),
    "none": np.array([], np.int64),
    "many": np.array([-100]),
    "most": np.array([2**40]),
    "parts": np.array([1, 5]),
    "empty": np.zeros((1, 0, 8), np.float32),
    "s21": np.array([1, 1, 2.1, 2.1], np.float32),
    "s2": np.array([1, 1, 2, 2], np.float32),
    "wide": np.array([1, 1.05, 2, 2], np.float32),
    "ratio": np.array(50, np.float32),
    "small": np.array([300, -7, 12], np.int16),
}
IMAGE, ROWS = "(float[1, 4, 6, 6] x)", "(float[1, 6, 8] x)"


def model_of(text: str) -> onnx.ModelProto:
    model = parse(f"g {text}", WEIGHTS)
    graph = model.graph
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return model


def check(text: str, precision: str = "fp16") -> None:
    """Compile and run ``text``: every declared output, in its type, is ONNX Runtime's."""
    model = model_of(text)
    feeds = random_feeds(model)
    wanted = execute(model, feeds)
    found = on_npu(model, feeds, precision, ("pipelined",))["pipelined"]
    assert list(found) == [info.name for info in model.graph.output]
    for name, expected in zip(found, wanted, strict=True):
        assert agrees(found[name], expected, precision), name


def test_a_number_may_stay_in_sram() -> None:
    check("(float x) => (float y) { a = Tanh(x) b = Mul(a, x) y = Relu(b) }")


def host_reasons(text: str) -> str:
    """Why nodes of ``text`` run on the host."""
    graph = Graph.from_model(model_of(text))
    PassManager(default_passes()).run(graph, CONTEXT)
    return "; ".join(group.reason for group in host_groups(graph))


@pytest.mark.parametrize(
    ("arguments", "outputs", "body"),
    [
        (
            IMAGE,
            "(float[1, 4] y)",
            "c = Conv<pads = [1,1,1,1]>(x, w) p = GlobalAveragePool(c) y = Flatten(p)",
        ),
        (IMAGE, "(float[1, 1, 6, 6] y)", "c = Conv<pads = [1,1,1,1]>(x, v) y = Sigmoid(c)"),
        (
            "(float[1, 6, 6, 4] x)",
            "(float[1, 6, 6, 4] y)",
            (
                "a = Transpose<perm = [0,3,1,2]>(x) b = Conv<pads = [1,1,1,1]>(a, w) "
                "y = Transpose<perm = [0,2,3,1]>(b)"
            ),
        ),
        (ROWS, "(float16[1, 6, 8] y)", "a = MatMul(x, k) y = Cast<to = 10>(a)"),
        (ROWS, "(double[6, 8] y)", "a = MatMul(x, k) b = Cast<to = 11>(a) y = Reshape(b, flat)"),
        (
            ROWS,
            "(float[6, 8] y, float[48] z, float[1, 6, 8] a)",
            "a = MatMul(x, k) y = Reshape(a, flat) z = Reshape(y, any)",
        ),
        (ROWS, "(float[1, 6, 8] y, float[1, 6, 8] z)", "y = MatMul(x, k) z = Identity(y)"),
        (
            ROWS,
            "(float[1, 6, 8] y, float[48] z)",
            "a = MatMul(x, k) y = Softmax(a) z = Reshape(a, any)",
        ),
        (
            ROWS,
            "(float[1, 6, 4] y, float[1, 6, 4] z)",
            "a = Relu(x) y, z = Split<axis = 2, num_outputs = 2>(a)",
        ),
        (ROWS, "(float[48] y)", "a = Sin(x) y = Reshape(a, any)"),
        (ROWS, "(float[1, 6, 8] y)", "y = Identity(x)"),
        (ROWS, "(float[1, 6, 8] y, float[1, 6, 8] x)", "y = Relu(x)"),
        (ROWS, "(float[48] y, float[1, 6, 8] z)", "y = Reshape(x, any) z = Relu(x)"),
        (ROWS, "(float[6, 8] y)", "a = Reshape(x, any) y = Reshape(a, flat)"),
        (ROWS, "(float16[1, 6, 8] y)", "y = Cast<to = 10>(x)"),
        (ROWS, "(float[1, 6, 8] y, float[3] c3)", "y = Relu(x)"),
        (ROWS, "(float[1, 6, 8] y, float[6, 8] rows)", "y = Add(x, rows)"),
        (ROWS, "(float[1, 6, 8] y, float[3] z)", "y = Relu(x) z = Neg(c3)"),
        (ROWS, "(float[1, 6, 8] y, float[3, 1] z)", "y = Relu(x) z = Unsqueeze(c3, axis1)"),
        (ROWS, "(float[1, 6, 8] y, double[3] z)", "y = Relu(x) z = Cast<to = 11>(c3)"),
        (ROWS, "(float[1, 6, 8] y, int64[2] z)", "y = Relu(x) z = Shape<start = 1>(x)"),
        (ROWS, "(float[1, 6, 8] y, int16[3] small)", "y = Relu(x)"),
    ],
)
def test_every_declared_output_comes_back(arguments: str, outputs: str, body: str) -> None:
    check(f"{arguments} => {outputs} {{ {body} }}")


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"({kind}[1, 6, 8] x) => (float[1, 6, 8] y, {kind}[1, 6, 8] z) "
            "{ f = Cast<to = 1>(x) y = Mul(f, ratio) z = Identity(x) }"
            for kind in ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32")
        ),
        "(double[1, 6, 8] x) => (double[1, 6, 8] y, double[1, 6, 8] z) { y = Sin(x) z = Neg(x) }",
        "(float16[1, 6, 8] x) => (float16[1, 6, 8] y) { y = Relu(x) }",
        f"{ROWS} => (int16[1, 6, 8] y) {{ f = Mul(x, ratio) r = Round(f) y = Cast<to = 5>(r) }}",
        "(int16[4] x, int16[4] z) => (int16[4] y) { y = Add(x, z) }",
        (
            "(bool[1, 6, 8] m, float[1, 6, 8] x) => (float[1, 6, 8] y) "
            "{ n = Neg(x) a = Where(m, x, n) y = Softmax(a) }"
        ),
        (
            "(float[1, 2, 4, 4, 4] x) => (float[1, 4, 2, 4, 4] y) "
            "{ y = Transpose<perm = [0, 2, 1, 3, 4]>(x) }"
        ),
    ],
)
def test_types_and_ranks_that_the_npu_does_not_know_pass_its_border_exactly(text: str) -> None:
    check(text)


def test_ops_without_operands_run_on_the_host() -> None:
    text = f"{ROWS} => (float[1, 6, 8] y) {{ r = RandomNormal<shape = [1, 6, 8]>() y = Add(x, r) }}"
    model = model_of(text)
    feeds = random_feeds(model)
    drawn = on_npu(model, feeds, schedules=("mlt",))["mlt"]["y"] - feeds["x"]
    assert 0.5 < drawn.std() < 1.5  # five standard errors from 1, for 48 numbers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(bfloat16[4] x) => (float[4] y) { y = Cast<to = 1>(x) }", "'x' holds bfloat16 values"),
        ("(string[2] x) => (bool[2] y) { y = Equal(x, x) }", "'x' holds string values"),
        (
            f"{ROWS} => (float[1, 6, 8] y, float[1, 0, 8] empty) {{ y = Relu(x) }}",
            "'empty' has shape [1, 0, 8], one of whose sizes is 0",
        ),
    ],
)
def test_what_cannot_pass_the_border_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(UnsupportedOpError, match=reason.replace("[", r"\[")):
        on_npu(model_of(text), {})


NORM = f"{ROWS} => (float[1, 6, 8] y)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *(
            (f"{NORM} {{ y = LayerNormalization({operands}) }}", "is not one value for each of 8")
            for operands in ("x, g6", "x, g16, g16", "x, g1", "x, g61", "x, g, g6")
        ),
        (
            f"{ROWS} => (float[1, 6, 8] y, float[1, 6, 1] m) {{ y, m = LayerNormalization(x, g) }}",
            "further result 'm' is wanted",
        ),
        (
            f"{NORM} {{ z, m, s = LayerNormalization(x, g, g) y = Mul(z, s) }}",
            "further result 's' is wanted",
        ),
        (f"{NORM} {{ y, m, s = LayerNormalization(x, g, g) }}", ""),
        (f"{NORM} {{ y = Concat<axis = 1>(x, empty) }}", ""),
        (f"{NORM} {{ r = Relu(x) y = Concat<axis = -2>(empty, r) }}", ""),
        (
            (
                "(float[1, 4, 5, 5] x) => (float[1, 4, 10, 10] y) "
                '{ r = Resize<nearest_mode = "floor", '
                'coordinate_transformation_mode = "asymmetric">'
                "(x, , s21) y = Conv<pads = [1, 1, 1, 1]>(r, w) }"
            ),
            "",
        ),
        (
            (
                f"{IMAGE} => (float[1, 4, 12, 12] y) "
                '{ y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "ceil">'
                "(x, , wide) }"
            ),
            "",
        ),
        (f"{IMAGE} => (float[1, 4, 12, 12] y) {{ y = Resize(x, , s2) }}", ""),
        ("(float[2, 3, 8] x) => (float[2, 3, 5] y) { y = MatMul(x, k3) }", ""),
        ("(float[3, 8] x) => (float[2, 3, 5] y) { y = MatMul(x, k3) }", "need broadcasting"),
        ("(float[8] x) => (float[8] y) { y = MatMul(x, k) }", ""),
        ("(float[2, 3, 8] x) => (float[2, 3] y) { y = MatMul(x, g) }", "need broadcasting"),
        (f"{ROWS} => (float[1, 2, 8] y) {{ y = Slice(x, many, axis2, axis1) }}", ""),
        (f"{ROWS} => (float[1, 4, 8] y) {{ y = Slice(x, axis2, most, axis1) }}", ""),
        (
            (
                f"{ROWS} => (float[1, 1, 8] y, float[1, 5, 8] z) "
                "{ y, z = Split<axis = -2>(x, parts) }"
            ),
            "",
        ),
        (
            f"{ROWS} => (float[1, 6, 8] y) {{ y = ReduceSum<noop_with_empty_axes = 1>(x, none) }}",
            "reduces axes [] of 3",
        ),
        ("(float[6, 8] x) => (float[1, 1] y) { y = ReduceSum(x, none) }", "reduces axes [0, 1]"),
        (
            "(float[1, 4, 6, 6] x, float[4] b) => (float[1, 4, 4, 4] y) { y = Conv(x, w, b) }",
            "weights 'b' are computed at run time",
        ),
    ],
)
def test_neighbours_of_what_the_npu_runs_are_right_or_on_the_host(text: str, reason: str) -> None:
    reasons = host_reasons(text)
    assert reason in reasons
    assert bool(reason) == bool(reasons)
    check(text)
    if not reason and "empty" not in text:
        check(text, "w8a16")
