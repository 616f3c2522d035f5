"""Tensors of a network while it is being built: names, shapes, element types, roles.

Element types: an op of precision ``w8a16`` computes on INT16 activations with INT8 weights, INT64
biases and FP32 scale and shift of norms; one of precision ``fp16`` keeps everything in FP16. Where
the two meet, a ``transpose`` that moves no axis converts (the machine's COPY converts types).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from edgefusion.compiler.frontend.legality_rules import VIEWS, folded_shape, stored_constant
from edgefusion.compiler.graph import names
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.compiler.network.kind import Kind, Use
from edgefusion.compiler.network.network import Epilogue, NetOp
from edgefusion.compiler.network.tensor import NetTensor, statistics_dtype
from edgefusion.compiler.ops.movement import Transpose
from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.isa import MAX_RANK, DType, Role

ACTIVATION_DTYPE: Mapping[str, DType] = {"fp16": DType.FP16, "w8a16": DType.INT16}

CONSTANT_DTYPE: Mapping[str, Mapping[Use, DType]] = {
    "fp16": {},
    "w8a16": {Use.WEIGHT: DType.INT8, Use.BIAS: DType.INT64, Use.NORM: DType.FP32},
}
"""By precision and use; what is not listed has the activation's type."""

EXTERNAL_DTYPE: Mapping[str, DType] = {
    "bool": DType.BOOL,
    "int8": DType.INT8,
    "uint8": DType.UINT8,
    "int16": DType.INT32,
    "uint16": DType.INT32,
    "int32": DType.INT32,
    "uint32": DType.INT64,
    "int64": DType.INT64,
    "uint64": DType.UINT64,
    "float16": DType.FP32,
    "float32": DType.FP32,
    "float64": DType.FP64,
}
"""How values that the NPU does not compute on lie in its memory: exactly. INT16 would be taken for
fixed-point activations, so 16 bits are widened; the border and the host narrow them again."""


@dataclass
class NetworkBuilder:
    """Collects ops and tensors; ``precision_of`` an op comes from its annotation."""

    graph: Graph
    default_precision: str
    tensors: dict[str, NetTensor] = field(default_factory=dict)
    ops: list[NetOp] = field(default_factory=list)

    def precision_of(self, node: Node) -> str:
        """``fp16`` or ``w8a16``."""
        return node.annotations.get(names.PRECISION, self.default_precision)

    def external(self, tensor: Tensor) -> str:
        """A tensor that comes from outside the NPU: a graph input or a host result."""
        if tensor.name not in self.tensors:
            if 0 in tensor.shape:
                raise UnsupportedOpError(
                    f"'{tensor.name}' has shape {list(tensor.shape)}, one of whose sizes is 0; "
                    "empty tensors do not pass the graph's border or between host and NPU. Remove "
                    "it from the model, or give it a size of 1 or more."
                )
            self._put(tensor, self._external_dtype(tensor))
        return tensor.name

    def result(self, tensor: Tensor, node: Node, dtype: DType | None = None) -> str:
        """A tensor that ``node`` makes on the NPU."""
        self._put(tensor, ACTIVATION_DTYPE[self.precision_of(node)] if dtype is None else dtype)
        return tensor.name

    def operand(self, tensor: Tensor, node: Node, use: Use = Use.ACTIVATION) -> str:
        """What ``node`` reads: an activation in its precision, or a constant for ``use``."""
        if tensor.is_absent:
            return ""
        precision = self.precision_of(node)
        stored = stored_constant(tensor)
        if stored is not None:
            dtype = CONSTANT_DTYPE[precision].get(use, ACTIVATION_DTYPE[precision])
            return self._constant(tensor, stored, dtype, node)
        name = self.external(tensor) if tensor.name not in self.tensors else tensor.name
        return self._converted(name, ACTIVATION_DTYPE[precision], node)

    def op(
        self,
        node: Node,
        kind: type[Kind],
        operands: Mapping[str, Tensor | Sequence[Tensor]],
        attributes: Mapping[str, Any] | None = None,
        epilogue: Sequence[tuple[str, Tensor | None]] = (),
        *,
        output: Tensor | None = None,
        name: str = "",
    ) -> None:
        """Append the op that computes ``output`` (default: the first result of ``node``).

        ``operands`` and ``attributes`` are the fields of ``kind``; what an operand is used for, and
        so the type it is stored in, ``kind`` says itself. ``epilogue`` are functions, each with the
        tensor that it reads, or for statistics makes.
        """
        uses = kind.operand_fields()
        read: dict[str, str | tuple[str, ...]] = {}
        for key, tensors in operands.items():
            use, many = uses[key]
            if isinstance(tensors, Tensor):
                read[key] = self._operand(tensors, node, use)
            else:
                assert many
                read[key] = tuple(self._operand(tensor, node, use) for tensor in tensors)
        steps = tuple(self._step(node, function, tensor) for function, tensor in epilogue)
        made = self.result(output or node.output, node)
        what = kind(**read, **(attributes or {}))
        self.ops.append(NetOp(name or node.name, what, (made,), steps, node.origin, node.scope))

    def _step(self, node: Node, function: str, tensor: Tensor | None) -> Epilogue:
        if tensor is None:
            return Epilogue(function)
        step = Epilogue(function, tensor.name)
        if not step.is_statistics:
            return Epilogue(function, self.operand(tensor, node))
        dtype = statistics_dtype(ACTIVATION_DTYPE[self.precision_of(node)])
        self.tensors[tensor.name] = NetTensor(tensor.name, tensor.shape, dtype)
        return step

    def _operand(self, tensor: Tensor, node: Node, use: Use) -> str:
        """Statistics are made by another op, in their own type."""
        return tensor.name if use is Use.STATISTICS else self.operand(tensor, node, use)

    def _put(self, tensor: Tensor, dtype: DType) -> None:
        role = Role.ACTIVATION
        if tensor.producer is None:
            role = Role.INPUT
        elif tensor.is_output:
            role = Role.OUTPUT
        self.tensors[tensor.name] = NetTensor(tensor.name, _stored_shape(tensor), dtype, role)

    def _external_dtype(self, tensor: Tensor) -> DType:
        """The type that the NPU computes in where it reads the tensor, else one that holds it."""
        if tensor.dtype.name not in EXTERNAL_DTYPE:
            raise UnsupportedOpError(
                f"'{tensor.name}' holds {_type_name(tensor.dtype)} values and passes between the "
                f"graph's border, the host and the NPU, which know {', '.join(EXTERNAL_DTYPE)}. "
                "Cast it to one of them inside the model, or export the model in float32."
            )
        if np.issubdtype(tensor.dtype, np.floating):
            reader = next(self._computing_readers(tensor), None)
            if reader is not None:
                return ACTIVATION_DTYPE[self.precision_of(reader)]
        return EXTERNAL_DTYPE[tensor.dtype.name]

    def _computing_readers(self, tensor: Tensor) -> Iterator[Node]:
        """The nodes on the NPU that read ``tensor``, or a view of it, other than views."""
        for node in tensor.consumers:
            if names.HOST_GROUP in node.annotations:
                continue
            if node.op in VIEWS and not node.domain:
                yield from self._computing_readers(node.output)
            else:
                yield node

    def _constant(self, shown: Tensor, stored: Tensor, dtype: DType, node: Node) -> str:
        scale = ""
        maker = shown.producer if shown is not stored else None
        if maker is not None and maker.op == "DequantizeLinear":
            scale = maker.inputs[1].name
            shape = folded_shape(maker.inputs[1])
            self.tensors[scale] = NetTensor(scale, shape, DType.FP32, Role.TABLE, scale)
        if dtype == DType.INT8 and not scale:
            raise UnsupportedOpError(
                f"weight '{stored.name}' was not quantized although its op is w8a16; "
                "run the pass quantize-w8a16 after assign-precision"
            )
        name = stored.name
        known = self.tensors.get(name)
        if known is not None and known.dtype != dtype:
            name = names.converted(stored.name, dtype.name)
        elif known is not None and dtype is DType.INT64:
            name = names.own(stored.name, node.name)  # a bias is in steps of its op's products
        self.tensors[name] = NetTensor(
            name, folded_shape(stored), dtype, Role.WEIGHT, stored.name, scale
        )
        return name

    def _converted(self, name: str, dtype: DType, node: Node) -> str:
        """Tensor ``name`` as ``dtype``, converted if the op that made it has another precision."""
        source = self.tensors[name]
        if source.dtype == dtype:
            return name
        target = names.converted(name, dtype.name)
        if target not in self.tensors:
            self.tensors[target] = NetTensor(target, source.shape, dtype)
            convert = Transpose(x=name, perm=tuple(range(len(source.shape))))
            self.ops.append(
                NetOp(names.conversion(target), convert, (target,), (), node.origin, node.scope)
            )
        return target


def _stored_shape(tensor: Tensor) -> tuple[int, ...]:
    """``folded_shape``; the host's tensors may have more axes, of which the leading ones are merged
    (it is told their shapes by itself)."""
    shape = folded_shape(tensor)
    merged = len(shape) - MAX_RANK + 1
    return shape if merged <= 1 else (prod(shape[:merged]), *shape[merged:])


def _type_name(dtype: np.dtype[Any]) -> str:
    return "string" if dtype.kind == "O" else dtype.name
