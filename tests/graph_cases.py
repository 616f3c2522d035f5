"""Small ONNX graphs written as text, and what every pass test does with them: execute, then look.

Weights need not be declared in the text; ``weights`` gives their shapes (drawn at random) or their
values. A case is run in ONNX Runtime before and after the pass and must give the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnxruntime as ort

from edgefusion.compiler.graph.graph import Graph, Node
from edgefusion.passes.pass_base import Pass, PassContext
from edgefusion.passes.pass_manager import PassManager, PassRecord
from edgefusion.runtime.target import load_target

Array = npt.NDArray[Any]
Weights = Mapping[str, Array | Sequence[int]]

CONTEXT = PassContext(load_target("exynos2400").machine)
FEEDS_SEED = 11
HEADER = '<ir_version: 10, opset_import: ["": 20, "edgefusion": 1]>\n'


def parse(text: str, weights: Weights | None = None, opset: int = 20) -> onnx.ModelProto:
    """A model from ``name (inputs) => (outputs) { ... }``."""
    header = HEADER.replace("20", str(opset))
    model = onnx.parser.parse_model(header + text)
    rng = np.random.default_rng(5)
    for name, value in (weights or {}).items():
        array = value
        if not isinstance(array, np.ndarray):
            array = rng.standard_normal(tuple(value)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def random_feeds(model: onnx.ModelProto) -> dict[str, Array]:
    """Values for all inputs: normal floats, integers below 8, and booleans."""
    rng = np.random.default_rng(FEEDS_SEED)
    feeds: dict[str, Array] = {}
    for info in model.graph.input:
        tensor = info.type.tensor_type
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype.kind == "f":
            feeds[info.name] = rng.standard_normal(shape).astype(dtype)
        else:
            feeds[info.name] = rng.integers(0, 2 if dtype.kind == "b" else 8, shape).astype(dtype)
    return feeds


def execute(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Run in ONNX Runtime, without its own fusions, so that ours are what is tested."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options)
    return [np.asarray(value) for value in session.run(None, dict(feeds))]


def assert_same(found: Sequence[Array], wanted: Sequence[Array], tolerance: float = 2e-5) -> None:
    """Equal up to ``tolerance`` of the largest value, which is finite and not 0."""
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        assert np.isfinite(theirs).all(), "the case itself gives infinities or NaN"
        assert np.any(theirs), "the case itself gives nothing but zeros"
        scale = float(np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


@dataclass(frozen=True)
class Outcome:
    """The graph after one pass, and what the pass reported."""

    graph: Graph
    record: PassRecord

    @property
    def ops(self) -> list[str]:
        """Operator names in order."""
        return [node.op for node in self.graph.nodes]

    @property
    def only(self) -> Node:
        """The one node that is left."""
        (node,) = self.graph.nodes
        return node

    @property
    def missed(self) -> str:
        """The reason of the one near-match that was refused."""
        (remark,) = (remark for remark in self.record.remarks if remark.kind == "missed")
        return remark.reason


def rewritten(
    each: Pass,
    text: str,
    weights: Weights | None = None,
    *,
    opset: int = 20,
    tolerance: float = 2e-5,
) -> Outcome:
    """Run one pass over a case, verify the graph before and after, and compare the values."""
    model = parse(text, weights, opset)
    feeds = random_feeds(model)
    wanted = execute(model, feeds)
    graph = Graph.from_model(model)
    (record,) = PassManager([each]).run(graph, CONTEXT)
    assert_same(execute(graph.to_model(), feeds), wanted, tolerance)
    return Outcome(graph, record)


def untouched(each: Pass, text: str, weights: Weights | None = None, *, opset: int = 20) -> Outcome:
    """``rewritten`` for a case that the pass must leave alone."""
    outcome = rewritten(each, text, weights, opset=opset)
    assert not outcome.record.changed
    assert outcome.record.matched == 0
    return outcome
