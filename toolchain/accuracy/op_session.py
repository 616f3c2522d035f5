"""One op of a bundle's graph in ONNX Runtime, FP32, on values of one's choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.toolchain.running.segments import session

Array = npt.NDArray[Any]


class OpGraph:
    """A graph taken apart: any op of it runs alone, with the graph's own constants."""

    def __init__(self, model: onnx.ModelProto, constants: Mapping[str, Array]) -> None:
        """``constants`` are the values of the initializers by name."""
        self._model, self._constants = model, constants
        self._nodes = {node.name: node for node in model.graph.node}
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._initializers = {tensor.name for tensor in model.graph.initializer}
        self._functions = {function.name: function for function in model.functions}

    def __contains__(self, op: str) -> bool:
        return op in self._nodes

    def inputs(self, op: str) -> tuple[str, ...]:
        """Names of the activations that ``op`` reads."""
        names = dict.fromkeys(name for name in self._nodes[op].input if name)
        return tuple(name for name in names if not self._is_constant(name))

    def run(self, op: str, *feeds: Mapping[str, Array]) -> list[Array]:
        """The first output of ``op`` on each of ``feeds`` (activations by name)."""
        output = self._nodes[op].output[0]
        runner = session(self._extract(op, feeds[0]))
        return [np.asarray(runner.run([output], dict(feed))[0]) for feed in feeds]

    def _is_constant(self, name: str) -> bool:
        """Stored, or unpacked from what is stored."""
        if name in self._initializers:
            return True
        maker = self._makers.get(name)
        return maker is not None and all(n in self._initializers for n in maker.input)

    def _extract(self, op: str, feed: Mapping[str, Array]) -> onnx.ModelProto:
        node = self._nodes[op]
        unpacking = [
            self._makers[name]
            for name in dict.fromkeys(node.input)
            if name and name not in self._initializers and self._is_constant(name)
        ]
        part = onnx.ModelProto(
            ir_version=self._model.ir_version, opset_import=self._model.opset_import
        )
        part.graph.name = "op"
        part.graph.node.extend([*unpacking, node])
        if node.op_type in self._functions:
            part.functions.append(self._functions[node.op_type])
        stored = dict.fromkeys(
            n for inner in part.graph.node for n in inner.input if n in self._initializers
        )
        for name in stored:
            values = np.ascontiguousarray(self._constants[name])
            part.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        for name, values in feed.items():
            kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
            part.graph.input.append(
                onnx.helper.make_tensor_value_info(name, kind, list(values.shape))
            )
        part.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
        return part
