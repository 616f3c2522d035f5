"""quantize-w8a16: real INT8 weights, exactly those ONNX Runtime computes with."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import onnx
import pytest

from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.assign_precision import AssignPrecision
from edgefusion.passes.channels_last import ChannelsLast
from edgefusion.passes.pass_base import Pass
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.quantize_w8a16 import (
    QuantizeW8A16,
    channel_scales,
    expected_sqnr_db,
    quantize,
)
from edgefusion.runtime.errors import InputError
from tests.graph_cases import CONTEXT, Array, assert_same, execute, parse, random_feeds

TEXT = (
    "g (float[1, 8, 6, 4] x) => (float[1, 6, 4, 5] y) "
    "{ c = Conv<pads = [1, 1, 1, 1]>(x, w) t = Transpose<perm = [0, 2, 3, 1]>(c) y = MatMul(t, k) }"
)
WEIGHTS = {"w": (8, 8, 3, 3), "k": (8, 5)}
PASSES: list[Pass] = [ChannelsLast(), AssignPrecision("w8a16"), QuantizeW8A16()]


def dequantized(w: Array, axis: int) -> Array:
    scales = channel_scales(w, axis)
    shape = [-1 if i == axis else 1 for i in range(w.ndim)]
    return quantize(w, scales, axis).astype(np.float32) * scales.reshape(shape)


def test_graph_computes_with_the_dequantized_weights(tmp_path: Path) -> None:
    model = parse(TEXT, WEIGHTS)
    feeds = random_feeds(model)
    graph = Graph.from_model(model)
    PassManager(PASSES).run(graph, CONTEXT)
    reference = parse(TEXT, WEIGHTS)
    for proto, axis in zip(reference.graph.initializer, (0, 1), strict=True):
        w = onnx.numpy_helper.to_array(proto)
        proto.CopyFrom(onnx.numpy_helper.from_array(dequantized(w, axis), proto.name))
    assert_same(execute(graph.to_model(), feeds), execute(reference, feeds), 1e-6)
    stored = {t.name: t for t in graph.constants}
    assert stored["w_int8"].dtype == np.int8
    assert stored["w_scale"].shape == (8,)
    assert stored["k_scale"].shape == (5,)
    graph.save(tmp_path / "g.onnx", tmp_path / "g.safetensors")
    assert_same(
        execute(Graph.load(tmp_path / "g.onnx").to_model(), feeds), execute(reference, feeds), 1e-6
    )


def test_fp16_ops_and_a_second_run_change_nothing() -> None:
    graph = Graph.from_model(parse(TEXT, WEIGHTS))
    fp16: list[Pass] = [ChannelsLast(), AssignPrecision("fp16"), QuantizeW8A16()]
    PassManager(fp16).run(graph, CONTEXT)
    assert "DequantizeLinear" not in [node.op for node in graph.nodes]
    graph = Graph.from_model(parse(TEXT, WEIGHTS))
    PassManager(PASSES).run(graph, CONTEXT)
    assert not QuantizeW8A16().run(graph, CONTEXT).changed


def test_shared_weight_is_quantized_once() -> None:
    text = "g (float[2, 8] x) => (float[2, 8] y) { h = MatMul(x, w) y = MatMul(h, w) }"
    graph = Graph.from_model(parse(text, {"w": (8, 8)}))
    result = PassManager(PASSES[1:]).run(graph, CONTEXT)[-1]
    assert [node.op for node in graph.nodes] == ["DequantizeLinear", "MatMul", "MatMul"]
    assert "SQNR about" in result.remarks[0].reason


@pytest.mark.parametrize(("bad", "text"), [(np.nan, "holds NaN"), (-np.inf, "reaches inf")])
def test_weight_that_is_not_finite_is_named(bad: float, text: str) -> None:
    w: Array = np.ones((8, 8), np.float32)
    w[0, 0] = bad
    source = "g (float[2, 8] x) => (float[2, 8] y) { y = MatMul(x, w) }"
    graph = Graph.from_model(parse(source, {"w": w}))
    with pytest.raises(InputError, match=text):
        PassManager(PASSES[1:]).run(graph, CONTEXT)


def test_channel_of_zeros_has_scale_one() -> None:
    w: Array = np.zeros((3, 4), np.float32)
    w[1] = 254.0
    scales = channel_scales(w, 0)
    assert scales.tolist() == [1.0, 2.0, 1.0]
    assert quantize(w, scales, 0)[1].tolist() == [127] * 4


WEIGHT = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


@hypothesis.given(w=WEIGHT, axis=st.integers(0, 1))
def test_error_is_at_most_half_a_step_of_the_channel(w: Array, axis: int) -> None:
    scales = channel_scales(w, axis)
    q = quantize(w, scales, axis)
    assert q.dtype == np.int8
    assert q.min() >= -127
    shape = [-1 if i == axis else 1 for i in range(w.ndim)]
    steps = scales.astype(np.float64).reshape(shape)
    error = np.abs(q * steps - w.astype(np.float64))
    # q * scale rounds once in float32 where w / scale was rounded: a few ulp of w beside the half
    assert (error <= steps / 2 + 1e-6 * np.abs(w)).all()


def test_expected_sqnr_is_near_the_measured() -> None:
    w = np.random.default_rng(3).standard_normal((64, 64, 3, 3)).astype(np.float32)
    error = dequantized(w, 0) - w
    measured = 10 * np.log10(np.square(w).sum() / np.square(error).sum())
    assert expected_sqnr_db(w, channel_scales(w, 0)) == pytest.approx(measured, abs=0.3)
