"""Ops of common networks through the whole compiler: none on the host, values by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest

from edgefusion.compiler.frontend.placement import host_groups
from edgefusion.compiler.graph.graph import Graph
from edgefusion.models.onnx_source import imported
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.runtime.accuracy import decibels
from tests.graph_cases import CONTEXT, Weights, execute, parse, random_feeds
from tests.whole_graphs import on_npu

LEAST_DB: Mapping[str, float] = {"fp16": 55.0, "w8a16": 35.0}
"""A few roundings of FP16; INT8 weights."""


@dataclass(frozen=True)
class Case:
    """A graph, its constants, and what the decibels of FP16 and INT16 fall short of the usual."""

    text: str
    weights: Weights = field(default_factory=dict)

    @property
    def model(self) -> onnx.ModelProto:
        return imported(parse(self.text, self.weights))


IMAGE = "float[1, 16, 8, 8] x"
CONV = {"w": (16, 16, 3, 3), "b": (16,)}
NORM: Mapping[str, Any] = {
    **dict.fromkeys(("gamma", "beta", "mean"), (16,)),
    "variance": np.linspace(0.5, 2.0, 16, dtype=np.float32),
}

CASES: Mapping[str, Case] = {
    "convolutions and pools over one axis": Case(
        "g (float[1, 8, 64] x) => (float[1, 16, 15] y) "
        "{ a = Conv<strides = [2], pads = [2, 2]>(x, v, b) r = Relu(a) "
        "m = MaxPool<kernel_shape = [2], strides = [2]>(r) "
        "y = Conv<group = 16, pads = [1, 0]>(m, u, c) }",
        {"v": (16, 8, 5), "u": (16, 1, 3), "b": (16,), "c": (16,)},
    ),
    "a bias of two convolutions": Case(
        f"g ({IMAGE}) => (float[1, 16, 8, 8] y) {{ a = Conv<pads = [1, 1, 1, 1]>(x, w, b) "
        "r = Relu(a) s = Mul(r, tenth) y = Conv<pads = [1, 1, 1, 1]>(s, w, b) }",
        {**CONV, "tenth": np.asarray(0.1, np.float32)},
    ),
    "batch norm before ReLU": Case(
        f"g ({IMAGE}) => (float[1, 16, 8, 8] y) {{ n = BatchNormalization(x, gamma, beta, mean, "
        "variance) r = Relu(n) y = Conv<pads = [1, 1, 1, 1]>(r, w, b) }",
        {**CONV, **NORM},
    ),
    "a constant in front": Case(
        "g (float[1, 12, 32] x) => (float[1, 13, 16] y) "
        "{ t = Concat<axis = 1>(token, x) y = MatMul(t, w) }",
        {"token": (1, 1, 32), "w": (32, 16)},
    ),
    "rotary angles of all heads": Case(
        "g (float[1, 4, 12, 16] x) => (float[1, 4, 12, 16] y) { c = Mul(x, cos) "
        "a, b = Split<axis = -1, num_outputs = 2>(x) n = Neg(b) t = Concat<axis = -1>(n, a) "
        "s = Mul(t, sin) y = Add(c, s) }",
        {"cos": (1, 1, 12, 16), "sin": (1, 1, 12, 16)},
    ),
    "one row for each head": Case(
        "g (float[1, 4, 12, 16] x, float[1, 4, 1, 16] u) => (float[1, 4, 12, 16] y) "
        "{ a = Add(x, bias) y = Mul(u, a) }",
        {"bias": (4, 1, 16)},
    ),
    "two images": Case(
        "g (float[2, 16, 8, 8] x) => (float[2, 10] y) { a = Conv<pads = [1, 1, 1, 1]>(x, w, b) "
        "r = Relu(a) d = Conv<group = 16, strides = [2, 2], pads = [1, 1, 1, 1]>(r, v, c) "
        "p = GlobalAveragePool(d) f = Flatten(p) y = Gemm(f, k) }",
        {**CONV, "v": (16, 1, 3, 3), "c": (16,), "k": (16, 10)},
    ),
    "an image enlarged between its pixels": Case(
        f"g ({IMAGE}) => (float[1, 16, 12, 16] y) {{ r = Relu(x) "
        'e = Resize<mode = "linear">(r, , scales) y = Add(e, shift) }',
        {"scales": np.asarray([1, 1, 1.5, 2], np.float32), "shift": (16, 1, 1)},
    ),
    "PixelShuffle": Case(
        f"g ({IMAGE}) => (float[1, 4, 16, 16] y) "
        '{ f = Conv(x, k, b) y = DepthToSpace<blocksize = 2, mode = "CRD">(f) }',
        {"k": (16, 16, 1, 1), "b": (16,)},
    ),
    "windows of an image": Case(
        "g (float[1, 8, 12, 16] x) => (float[6, 16, 16] y) { s = Reshape(x, split) "
        "t = Transpose<perm = [0, 1, 3, 2, 4, 5]>(s) y = Reshape(t, merge) }",
        {
            "split": np.asarray([1, 2, 4, 3, 4, 16], np.int64),
            "merge": np.asarray([6, 16, 16], np.int64),
        },
    ),
    "attention of windows, with rotary angles and a bias of each head": Case(
        "g (float[3, 2, 8, 16] q, float[3, 2, 8, 16] k, float[3, 2, 8, 16] v) => "
        "(float[3, 2, 8, 16] y) { r = Mul(q, angles) kt = Transpose<perm = [0, 1, 3, 2]>(k) "
        "s = MatMul(r, kt) b = Add(s, bias) p = Softmax(b) y = MatMul(p, v) }",
        {"angles": (8, 16), "bias": (1, 2, 8, 8)},
    ),
    "keys of groups of queries": Case(
        "g (float[1, 4, 8, 16] q, float[1, 2, 16, 8] k, float[1, 2, 8, 16] v) => "
        "(float[1, 4, 8, 16] y) { k5 = Unsqueeze(k, two) v5 = Unsqueeze(v, two) "
        "ke = Expand(k5, keys) ve = Expand(v5, values) kh = Reshape(ke, k4) vh = Reshape(ve, v4) "
        "s = MatMul(q, kh) h = Mul(s, quarter) p = Softmax(h) y = MatMul(p, vh) }",
        {
            "two": np.asarray([2], np.int64),
            "keys": np.asarray([1, 2, 2, 16, 8], np.int64),
            "values": np.asarray([1, 2, 2, 8, 16], np.int64),
            "k4": np.asarray([1, 4, 16, 8], np.int64),
            "v4": np.asarray([1, 4, 8, 16], np.int64),
            "quarter": np.asarray(0.25, np.float32),
        },
    ),
    "padding of its own": Case(
        f"g ({IMAGE}) => (float[1, 16, 8, 9] y) {{ p = Pad(x, widths) y = Conv(p, w, b) }}",
        {**CONV, "widths": np.asarray([0, 0, 2, 1, 0, 0, 0, 2], np.int64)},
    ),
    "clipped and negated": Case(
        f"g ({IMAGE}) => (float[1, 16, 8, 8] y) "
        "{ a = Clip(x, low, high) n = Neg(a) y = Sum(n, x, n) }",
        {"low": np.asarray(-0.3, np.float32), "high": np.asarray(0.8, np.float32)},
    ),
}


def on_host(model: onnx.ModelProto, precision: str) -> list[str]:
    """Why ops of ``model`` run on the host."""
    graph = Graph.from_model(model)
    PassManager(default_passes(precision)).run(graph, CONTEXT)
    return [group.reason for group in host_groups(graph)]


ATTENTION_OF_ONNX = (
    '<ir_version: 10, opset_import: ["" : 23]> '
    "g (float[1, 24, 64] q, float[1, 20, 32] k, float[1, 20, 32] v) => (float[1, 24, 64] y) "
    "{ y = Attention<q_num_heads = 4, kv_num_heads = 2, is_causal = 1>(q, k, v) }"
)
"""With a guard against rows that are masked out, of which there are none."""


def test_attention_of_onnx_itself_is_one_op() -> None:
    graph = Graph.from_model(imported(onnx.parser.parse_model(ATTENTION_OF_ONNX)))
    PassManager(default_passes("fp16")).run(graph, CONTEXT)
    ops = [node.op for node in graph.nodes if node.op != "Cast"]  # the mask, which is a constant
    assert ops == ["Attention_grouped_mask"]


MODELS = {
    **{name: case.model for name, case in CASES.items()},
    "attention of ONNX itself": imported(onnx.parser.parse_model(ATTENTION_OF_ONNX)),
}


@pytest.mark.parametrize("precision", LEAST_DB)
@pytest.mark.parametrize("name", MODELS)
def test_all_of_it_runs_on_the_npu_and_is_right(name: str, precision: str) -> None:
    model = MODELS[name]
    assert on_host(model, precision) == []
    feeds = random_feeds(model)
    (wanted,) = execute(model, feeds)
    found = on_npu(model, feeds, precision)
    first, *rest = (outputs["y"] for outputs in found.values())
    for other in rest:
        np.testing.assert_array_equal(other, first)
    error = first.astype(np.float64) - wanted
    assert decibels((wanted.astype(np.float64) ** 2).sum(), (error**2).sum()) > LEAST_DB[precision]
