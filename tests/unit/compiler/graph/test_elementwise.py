"""Nodes as rows of the table, and what the table says of ONNX operators against the standard."""

from __future__ import annotations

import onnx
import pytest

from edgefusion.compiler.graph.elementwise import unary_function
from edgefusion.compiler.graph.functions import OPSET, function_for
from edgefusion.compiler.graph.graph import Graph
from edgefusion.runtime.functions import BINARY, UNARY
from tests.function_reference import SCALARS, source
from tests.graph_cases import parse

STANDARD = [name for name, row in UNARY.items() if not row.operator.definition]
FUSED = [name for name in UNARY if name not in STANDARD]


def only(body: str) -> str | None:
    """The name of the function that the one node of a graph is."""
    text = f"g (float[2, 8] m, float h) => (float[2, 8] y) <{SCALARS}> {{ {body} }}"
    (node,) = Graph.from_model(parse(text)).nodes
    row = unary_function(node)
    return row.name if row else None


@pytest.mark.parametrize("name", STANDARD)
def test_standard_operators_are_recognised(name: str) -> None:
    assert only(source(name)) == name


@pytest.mark.parametrize("name", FUSED)
def test_fused_operators_are_recognised_in_their_own_domain(name: str) -> None:
    graph = Graph.from_model(parse("g (float[2, 8] m) => (float[2, 8] y) { y = Neg(m) }"))
    (node,) = graph.nodes
    fused = graph.fuse(
        [node], function_for(UNARY[name].operator.op_type), node.inputs, node.outputs
    )
    assert unary_function(fused) is UNARY[name]
    fused.raw.domain = "elsewhere"
    assert unary_function(fused) is None


@pytest.mark.parametrize(
    "op",
    ["Sin(m)", "Clip(m)", "Clip(m, zero)", "Clip(m, , six)", "Clip(m, zero, factor)",
     "Clip(m, h, six)", "HardSigmoid(m)", "HardSigmoid<alpha = 0.16666667, beta = 0.6>(m)"],
)  # fmt: skip
def test_near_matches_are_no_functions(op: str) -> None:
    assert only(f"y = {op}") is None


def test_defaults_are_those_of_the_standard() -> None:
    assert only('y = Gelu<approximate = "none">(m)') == only("y = Gelu(m)") == "gelu"
    assert only("y = HardSigmoid<alpha = 0.16666667, beta = 0.5>(m)") == "hard_sigmoid"


@pytest.mark.parametrize("name", STANDARD)
def test_operators_are_set_by_their_standard_names(name: str) -> None:
    operator = UNARY[name].operator
    schema = onnx.defs.get_schema(operator.op_type, OPSET)
    for each in operator.attributes:
        default = onnx.helper.get_attribute_value(schema.attributes[each.name].default_value)
        default = default.decode() if isinstance(default, bytes) else pytest.approx(default)
        assert each.default == default
    assert [n for n, _ in operator.constants] == [i.name for i in schema.inputs[1:]]


def test_binary_operators_are_standard() -> None:
    for row in BINARY.values():
        assert onnx.defs.get_schema(row.op_type, OPSET).name.lower() == row.name
