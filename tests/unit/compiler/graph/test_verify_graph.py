"""Every rule of the graph verifier fires when it is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgefusion.compiler.graph.functions import function_for
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.verify_graph import InvalidGraphError, verify_graph
from tests.graph_cases import parse

TEXT = (
    "g (float[2, 8] x) => (float[2, 8] y) "
    "{ a = Relu(x) b = Neg(a) c = LayerNormalization(b, w) y = Add(c, a) }"
)
F32 = np.dtype(np.float32)


def fresh() -> Graph:
    graph = Graph.from_model(parse(TEXT, {"w": (8,)}))
    relu, neg = graph.nodes[:2]
    graph.fuse([neg], function_for("SiLU"), [relu.output], [neg.output])
    return graph


def test_a_sound_graph_passes() -> None:
    verify_graph(fresh())


def same_node_name(graph: Graph) -> None:
    graph.nodes[0].raw.name = graph.nodes[2].name


def same_tensor_name(graph: Graph) -> None:
    graph.nodes[0].output.raw.name = graph.nodes[2].output.name


def two_makers(graph: Graph) -> None:
    graph.nodes[0].output.raw.inputs.append(graph.nodes[2].raw)


def no_maker(graph: Graph) -> None:
    graph.nodes[2].set_input(0, graph.tensor("loose", (2, 8), F32))


def result_without_maker(graph: Graph) -> None:
    graph.outputs[0].raw.inputs.clear()


def cycle(graph: Graph) -> None:
    graph.nodes[0].set_input(0, graph.nodes[3].output)
    graph._sorted = False


def unknown_shape(graph: Graph) -> None:
    graph.nodes[0].output.raw.shape = None


def no_origin(graph: Graph) -> None:
    graph.nodes[0].origin = ()


def undefined_function(graph: Graph) -> None:
    del graph.functions["SiLU"]


def too_many_operands_of_a_function(graph: Graph) -> None:
    graph.nodes[1].raw.inputs.append(graph.inputs[0].raw)


def missing_attribute_of_a_function(graph: Graph) -> None:
    function = function_for("SiLU")
    function.attribute.append("alpha")
    graph.functions["SiLU"] = function


def too_many_operands(graph: Graph) -> None:
    graph.nodes[0].raw.inputs.append(graph.inputs[0].raw)


def unknown_operator(graph: Graph) -> None:
    graph.nodes[0].raw.op = "Rectify"


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (same_node_name, "2 nodes are called"),
        (same_tensor_name, "2 tensors are called"),
        (two_makers, "is made by 2 nodes"),
        (no_maker, "'loose' is made by nothing"),
        (result_without_maker, "graph output 'y' is made by nothing"),
        (cycle, "cycle through"),
        (unknown_shape, "no known shape"),
        (no_origin, "has no origin"),
        (undefined_function, "'SiLU' is not defined"),
        (too_many_operands_of_a_function, "expected 1 operands and 1 results, got 2 and 1"),
        (missing_attribute_of_a_function, "attribute 'alpha' is missing"),
        (too_many_operands, "expected 1 to 1 operands, got 2"),
        (unknown_operator, "no such standard operator"),
    ],
)
def test_a_broken_rule_is_found(breakage: Callable[[Graph], None], message: str) -> None:
    graph = fresh()
    breakage(graph)
    with pytest.raises(InvalidGraphError, match=message):
        verify_graph(graph)
