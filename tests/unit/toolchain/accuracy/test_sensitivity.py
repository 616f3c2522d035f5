"""Sensitivity: what noise on one tensor does to the output, against what follows on paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgefusion.toolchain.accuracy.float_reference import ReferenceGraph
from edgefusion.toolchain.accuracy.sensitivity import FP16_NOISE, Contribution, output_noise
from tests.graph_cases import parse

TEXT = (
    "g (float[64, 64] x) => (float[64, 64] y) "
    "{ a = Mul(x, ten) b = Mul(x, one) c = Add(a, b) y = Identity(c) }"
)


def reference() -> ReferenceGraph:
    model = parse(TEXT, {"ten": (1,), "one": (1,)})
    for tensor, value in zip(model.graph.initializer, (10.0, 1.0), strict=True):
        values = np.array([value], np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return ReferenceGraph(onnx.shape_inference.infer_shapes(model), Path(), "source")


def test_noise_arrives_as_the_network_passes_it_on() -> None:
    x = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    found = output_noise(reference(), {"x": 0.01, "a": 0.01, "strange": 1.0}, {"x": x})
    assert found.keys() == {"x", "a"}
    assert found["x"] == pytest.approx(1e-4, rel=0.1)  # eleven times the noise and the signal
    assert found["a"] == pytest.approx(1e-4 / 121, rel=0.1)


def test_rounding_to_fp16_is_what_it_is_taken_for() -> None:
    x = np.random.default_rng(0).standard_normal(100_000)
    error = x.astype(np.float16) - x
    assert (error @ error) / (x @ x) == pytest.approx(FP16_NOISE, rel=0.3)
    share = Contribution.of(1e-3, own_noise=1e-4, signal=1.0)
    assert share.in_fp16 == pytest.approx(1e-3 * FP16_NOISE / 1e-4)
