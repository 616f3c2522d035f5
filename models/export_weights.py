"""Weights of a traced graph that are read as they are written, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

if TYPE_CHECKING:
    from edgefusion.models.outline import Values

Array = npt.NDArray[Any]


def bind_weights(graph: ir.Graph, names: Mapping[int, str], values: Values) -> None:
    """Constants of ``graph`` that are stand-ins, whose ``names`` go by address, become the
    ``values`` of these names, read when they are asked for; a transposed one too, as matrices are
    that a graph multiplies by from the right. Exporters would else read and keep each of these."""
    for value in [*graph.initializers.values()]:
        name = names.get(_address(value))
        if name is not None:
            _bind(value, partial(_read, values, name))
            _transpose(graph, value)


def _transpose(graph: ir.Graph, value: ir.Value) -> None:
    """In place of nodes that transpose ``value``: constants that are transposed as they are
    read."""
    stored = value.const_value
    assert stored is not None
    sizes = stored.shape.numpy()
    for node, _ in [*value.uses()]:
        if node.op_type != "Transpose" or node.domain:
            continue
        axes, result = node.attributes["perm"].as_ints(), node.outputs[0]
        turned = ir.Value(
            name=result.name,
            shape=ir.Shape([sizes[axis] for axis in axes]),
            type=ir.TensorType(stored.dtype),
        )
        _bind(turned, partial(_turned, stored, axes))
        result.replace_all_uses_with(turned, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        graph.register_initializer(turned)
    if not value.uses():
        del graph.initializers[str(value.name)]


def _read(values: Values, name: str) -> Array:
    return values(name).numpy()


def _turned(stored: ir.TensorProtocol, axes: Sequence[int]) -> Array:
    return stored.numpy().transpose(axes)


def _bind(value: ir.Value, read: Callable[[], Array]) -> None:
    """``read`` gives the values of the constant ``value``, whose type and shape are known."""
    assert value.dtype is not None
    assert isinstance(value.shape, ir.Shape)
    value.const_value = ir.LazyTensor(
        lambda: ir.tensor(np.ascontiguousarray(read())),
        dtype=value.dtype,
        shape=value.shape,
        name=value.name,
    )


def _address(value: ir.Value) -> int:
    """Of a constant's data where torch holds it; 0 for others."""
    import torch

    held = getattr(value.const_value, "raw", None)
    return held.data_ptr() if isinstance(held, torch.Tensor) else 0
