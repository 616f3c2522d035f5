"""remove-qdq: pairs around activations go, and what they do beside rounding stays."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.passes.remove_qdq import RemoveQdq, advice
from tests.graph_cases import CONTEXT, Graph, PassManager, execute, parse, random_feeds

NUMBERS = {
    "s": np.array(0.02, np.float32),
    "other": np.array(0.04, np.float32),
    "six": np.array(6 / 255, np.float32),
    "middle": np.array(128, np.uint8),
    "low": np.array(0, np.uint8),
    "signed": np.array(-128, np.int8),
    "wide": np.array(0, np.int16),
    "each": np.full(4, 0.02, np.float32),
    "zeros": np.full(4, 128, np.uint8),
}


def after(body: str) -> tuple[list[str], str, float]:
    """Ops that are left, what is said, and the largest difference to the quantized model."""
    model = parse(f"g (float[2, 4] x) => (float[2, 4] y) {{ {body} }}", NUMBERS)
    graph = Graph.from_model(model)
    (record,) = PassManager([RemoveQdq()]).run(graph, CONTEXT)
    feeds = random_feeds(model)
    (found,), (wanted,) = execute(graph.to_model(), feeds), execute(model, feeds)
    said = advice(record.remarks) + " ".join(remark.reason for remark in record.remarks)
    return [node.op for node in graph.nodes], said, float(np.abs(found - wanted).max())


def pair(scale: str, zero: str, source: str = "a", result: str = "d") -> str:
    return (
        f"q = QuantizeLinear({source}, {scale}, {zero}) "
        f"{result} = DequantizeLinear(q, {scale}, {zero}) "
    )


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        ("a = Tanh(x) " + pair("s", "middle") + "y = Neg(d)", ["Tanh", "Neg"]),
        ("a = Tanh(x) " + pair("s", "signed") + "y = Neg(d)", ["Tanh", "Relu", "Neg"]),
        ("a = Tanh(x) " + pair("s", "low") + "y = Neg(d)", ["Tanh", "Relu", "Neg"]),
        ("a = Relu(x) " + pair("s", "low") + "y = Neg(d)", ["Relu", "Neg"]),
        ("a = Mul(x, x) " + pair("six", "low") + "y = Neg(d)", ["Mul", "Clip", "Neg"]),
        ("a = Tanh(x) " + pair("s", "low", result="y"), ["Tanh", "Relu"]),
        ("a = Tanh(x) " + pair("s", "middle", result="y"), ["Tanh"]),
        (pair("s", "low", "x") + "y = Neg(d)", ["Relu", "Neg"]),
        ("a = Tanh(x) " + pair("s", "middle") + "e = DequantizeLinear(q, s, middle) y = Add(d, e)",
         ["Tanh", "Add"]),
    ],
)  # fmt: skip
def test_pairs_go_and_cuts_stay(body: str, ops: list[str]) -> None:
    left, said, difference = after(body)
    assert left == ops
    assert "taken out" in said
    assert difference < 0.03, "more than roundings of two values"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (("a = Tanh(x) q = QuantizeLinear(a, s, middle) d = DequantizeLinear(q, other, middle) "
         "y = Neg(d)"), "another scale"),
        ("a = Tanh(x) q = QuantizeLinear(a, s, middle) d = DequantizeLinear(q, s, low) y = Neg(d)",
         "another scale"),
        (("a = Tanh(x) q = QuantizeLinear(a, each, zeros) d = DequantizeLinear(q, each, zeros) "
         "y = Neg(d)"), "one for each channel"),
        (("a = Tanh(x) q = QuantizeLinear(a, s, middle) r = Identity(q) "
         "d = DequantizeLinear(r, s, middle) y = Neg(d)"), "read by Identity"),
        (pair("s", "middle", "x", "y"), "from an input"),
    ],
)  # fmt: skip
def test_what_is_no_pair_stays(body: str, reason: str) -> None:
    _, said, difference = after(body)
    assert reason in said
    assert "run on the host" in said
    assert difference == 0
