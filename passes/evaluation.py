"""Values of a part of a graph, computed by ONNX Runtime, so the values that it would have had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.compiler.graph.weights import Array
from edgefusion.runtime.ort_session import open_session, telling


def read_elsewhere(nodes: Sequence[Node]) -> list[Tensor]:
    """The results of ``nodes`` that other nodes read."""
    members = set(nodes)
    return [
        tensor
        for node in nodes
        for tensor in node.outputs
        if any(consumer not in members for consumer in tensor.consumers)
    ]


def evaluate(
    graph: Graph,
    nodes: Sequence[Node],
    wanted: Sequence[Tensor],
    feeds: Sequence[Mapping[Tensor, Array]] = ({},),
) -> list[list[Array]]:
    """The ``wanted`` results of ``nodes`` for each of ``feeds``.

    ``nodes`` may need nothing but constants, each other and what is fed. Raises InputError where
    ONNX Runtime cannot compute them.
    """
    if not wanted:
        return [[] for _ in feeds]
    whole = graph.to_model(with_weights=False)
    names = {node.name for node in nodes}
    constants = {t.name: t.lazy for node in nodes for t in node.inputs if t.is_constant}
    fed = dict.fromkeys(tensor for feed in feeds for tensor in feed)
    part = onnx.helper.make_graph(
        [node for node in whole.graph.node if node.name in names],
        "part",
        [
            onnx.helper.make_tensor_value_info(
                t.name, onnx.helper.np_dtype_to_tensor_dtype(t.dtype), t.shape
            )
            for t in fed
        ],
        [onnx.helper.make_value_info(tensor.name, onnx.TypeProto()) for tensor in wanted],
        [onnx.numpy_helper.from_array(v.load(), name) for name, v in constants.items()],
    )
    model = onnx.helper.make_model(
        part, opset_imports=whole.opset_import, ir_version=whole.ir_version
    )
    what = f"the constant part of the graph that ends in '{wanted[-1].name}'"
    session = open_session(model.SerializeToString(), what)
    with telling(f"compute {what}"):
        return [
            [np.asarray(v) for v in session.run(None, {t.name: x for t, x in feed.items()})]
            for feed in feeds
        ]
