"""A model with every shape known: constants folded, branches taken, functions written out.

One walk over the nodes in order. Each is brought to our operator set (``opset``); then its results'
types follow from its operands' (``onnx.shape_inference``), and where all operands are constants,
their values too, by ONNX Runtime. So ``Shape``, ``Gather``, ``Concat``, ``Range`` and the like
vanish, whatever exporter wrote them, and a shape that stays unknown depends on the inputs' values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TypeProto, helper, numpy_helper

from edgefusion.compiler.graph.branches import branch_nodes, outer_names
from edgefusion.compiler.graph.function_calls import body_of, group_normalization, slices_of
from edgefusion.compiler.graph.node_names import name_nodes
from edgefusion.compiler.graph.opset import (
    IR_VERSION,
    OPSET,
    converted,
    is_standard,
    named,
    opset_of,
    reads_the_same,
    schema_of,
    without_unknown_attributes,
)
from edgefusion.compiler.graph.refused_forms import RANDOM, refused_form
from edgefusion.runtime.errors import InputError, UnsupportedOpError
from edgefusion.runtime.ort_session import ORT_ERRORS, open_session, session_options

FOLDED_VALUES = 1 << 14
"""Constants of up to so many values are folded here: shapes, axes, masks. A pass folds others."""

_LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})
_COUNTING = frozenset({"NonZero", "Compress", "Unique", "NonMaxSuppression"})
"""Ops that find out how much they make: a size that the graph states holds for some values."""


def made_static(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` at our operator set, with static shapes of all values in its ``value_info``.

    Its inputs must have static shapes. Initializers with external data stay as they are, and
    ``model`` is not changed.

    Raises:
        InputError: shapes that contradict each other, that depend on values of the inputs, or of
            size 0.
        UnsupportedOpError: loops, branches taken at run time, values that are no tensors, and ops
            that our operator set lacks.
    """
    walk = _Walk(opset_of(model), {info.name for info in model.graph.output})
    return walk.run(model)


_REFUSALS: tuple[type[Exception], ...] = (InputError, *ORT_ERRORS)
_INFERENCE_ERRORS = (
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
    RuntimeError,
    ValueError,
)


@dataclass
class _Walk:
    """What is known so far. ``constants`` are those whose values are small enough to look at."""

    version: int
    outputs: set[str]
    types: dict[str, TypeProto] = field(default_factory=dict)
    stated: dict[str, TypeProto] = field(default_factory=dict)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def run(self, model: onnx.ModelProto) -> onnx.ModelProto:
        graph = model.graph
        for tensor in graph.initializer:
            self._initializer(tensor)
        given = [info for info in graph.input if info.name not in self.initializers]
        for info in given:
            self.types[info.name] = info.type
            _check_tensor(info.type, f"the input '{info.name}'")
        self.stated = {info.name: info.type for info in (*graph.value_info, *graph.output)}
        nodes = list(_alive(graph))
        name_nodes(nodes)
        work = deque((node, self.version) for node in nodes)
        while work:
            node, version = work.popleft()
            work.extendleft(reversed(self._visit(node, version)))
        made = onnx.ModelProto(
            ir_version=model.ir_version, producer_name=model.producer_name, functions=()
        )
        made.opset_import.append(helper.make_opsetid("", OPSET))
        made.graph.name = graph.name
        made.graph.input.extend(given)
        for info in graph.output:
            if info.name not in self.types:
                raise InputError(f"nothing makes the output '{info.name}' of the graph")
            made.graph.output.append(self._info(info.name))
        made.graph.node.extend(self.nodes)
        alive = list(_alive(made.graph))
        del made.graph.node[:]
        made.graph.node.extend(alive)
        read = {name for node in alive for name in node.input} | self.outputs
        made.graph.initializer.extend(t for n, t in self.initializers.items() if n in read)
        results = dict.fromkeys(n for node in alive for n in node.output if n)
        made.graph.value_info.extend(self._info(n) for n in results if n not in self.outputs)
        return made

    def _info(self, name: str) -> onnx.ValueInfoProto:
        return onnx.ValueInfoProto(name=name, type=self.types[name])

    def _initializer(self, tensor: onnx.TensorProto) -> None:
        self.initializers[tensor.name] = tensor
        self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if not external and prod(tensor.dims) <= FOLDED_VALUES:
            self.constants[tensor.name] = tensor

    def _visit(self, node: onnx.NodeProto, version: int) -> list[tuple[onnx.NodeProto, int]]:
        """Take ``node`` over, or the nodes that stand for it with their operator sets."""
        if not is_standard(node):
            raise _foreign(node)
        if node.op_type == "If":
            return [(each, version) for each in self._branch(node)]
        if node.op_type in _LOOPS:
            raise UnsupportedOpError(
                f"{node.op_type} '{node.name}' is control flow, which has no static schedule; "
                "export the model with loops unrolled"
            )
        for name in node.input:
            if name and name not in self.types:
                raise InputError(
                    f"{node.op_type} '{node.name}' reads '{name}', which nothing before it makes; "
                    "check the model with onnx.checker"
                )
        schema = schema_of(node, version)
        if node.op_type == "Constant":
            self._initializer(constant_value(node))
            return []
        same = reads_the_same(node, version)
        if same and version != OPSET:
            without_unknown_attributes(node)
        if self._folded(node, (version, OPSET) if same else (version,)):
            return []
        if reason := refused_form(node, self.constants, self.types):
            raise UnsupportedOpError(f"{node.op_type} '{node.name}' cannot be compiled: {reason}")
        if node.op_type == "GroupNormalization":
            x = node.input[0]
            formed = group_normalization(node, version, self._sizes(x), self._elem_type(x))
            return [(each, OPSET) for each in formed]
        known_here = onnx.defs.has(node.op_type, OPSET)
        if not known_here or not schema.has_type_and_shape_inference_function:
            written_out = body_of(node, schema, self.types)
            if written_out:
                return written_out
        if not same:
            made = converted(node, version, self.types, self.constants)
            return [(each, OPSET) for each in made]
        self._infer(node, version)
        return self._taken_over(node)

    def _taken_over(self, node: onnx.NodeProto) -> list[tuple[onnx.NodeProto, int]]:
        """Keep ``node``, whose results have types; what holds nothing is known."""
        results = [name for name in node.output if name]
        empty = [n for n in results if self._is_empty(n) and n not in self.outputs]
        for name in empty:
            self._initializer(numpy_helper.from_array(self._empty(name), name))
        if len(empty) == len(results):
            return []
        if empty and node.op_type == "Split":
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            sizes = {name: self._sizes(name)[axis] for name in results}
            return [(each, OPSET) for each in slices_of(node, axis, sizes)]
        self._keep(node)
        return []

    def _branch(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes of the branch that is taken."""
        condition = self.constants.get(node.input[0])
        if condition is None:
            raise UnsupportedOpError(
                f"If '{node.name}' is control flow whose condition '{node.input[0]}' is computed "
                "at run time, and so has no static schedule; export the model with the branch taken"
            )
        taken = bool(numpy_helper.to_array(condition).reshape(-1)[0])
        nodes, constants = branch_nodes(node, "then_branch" if taken else "else_branch")
        for tensor in constants:
            self._initializer(tensor)
        return nodes

    def _infer(self, node: onnx.NodeProto, version: int, *, may_fail: bool = False) -> bool:
        """Types of the results; False if ``may_fail`` and they are not known."""
        read = [name for name in node.input if name]
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema_of(node, version),
                node,
                {name: self.types[name] for name in read},
                {name: self.constants[name] for name in read if name in self.constants},
                opset_imports=[helper.make_opsetid("", version)],
                ir_version=IR_VERSION,
            )
        except _INFERENCE_ERRORS as error:
            if may_fail:
                return False
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"the graph is inconsistent at {node.op_type} '{node.name}': {reason}"
            ) from None
        for name in filter(None, node.output):
            kind = found.get(name, TypeProto())
            promised = _is_static(self.stated.get(name, TypeProto()))
            if not _is_static(kind) and promised and node.op_type not in _COUNTING:
                kind = self.stated[name]
            if not _is_static(kind):
                if may_fail:
                    return False
                raise _unknown(node, name, kind)
            self._check_stated(node, name, kind)
            self.types[name] = kind
        return True

    def _check_stated(self, node: onnx.NodeProto, name: str, kind: TypeProto) -> None:
        """InputError where the graph states another size than follows."""
        if name not in self.stated or not self.stated[name].tensor_type.HasField("shape"):
            return
        stated = [d.dim_value for d in self.stated[name].tensor_type.shape.dim]
        found = [d.dim_value for d in kind.tensor_type.shape.dim]
        if len(stated) != len(found) or any(
            s not in (0, f) for s, f in zip(stated, found, strict=True)
        ):
            raise InputError(
                f"the graph is inconsistent: it states the shape {stated} for '{name}', and "
                f"{node.op_type} '{node.name}' makes {found}"
            )

    def _folded(self, node: onnx.NodeProto, versions: Sequence[int]) -> bool:
        """Whether the values of ``node``, which reads the same in ``versions``, are known now."""
        read = [name for name in node.input if name]
        if node.op_type in RANDOM or any(a.type == a.GRAPH for a in node.attribute):
            return False
        values: list[np.ndarray[Any, Any]] | None = None
        if node.op_type in ("Shape", "Size"):
            values = [_shape_value(node, self._sizes(read[0]))]
        elif all(name in self.constants for name in read):
            known = self._infer(node, versions[0], may_fail=True)
            if not known or self._count(node) <= FOLDED_VALUES:
                operands = {n: self.constants[n] for n in read}
                tried = (_evaluated(node, version, operands) for version in versions)
                values = next((found for found in tried if found is not None), None)
        if values is None:
            return False
        names = [name for name in node.output if name]
        folded = [numpy_helper.from_array(v, n) for n, v in zip(names, values, strict=True)]
        if any(name in self.outputs for name in names):
            for tensor in folded:
                self.constants[tensor.name] = tensor
            return False
        for tensor in folded:
            self._initializer(tensor)
        return True

    def _count(self, node: onnx.NodeProto) -> int:
        """How many values ``node`` makes."""
        return sum(prod(self._sizes(name)) for name in node.output if name)

    def _is_empty(self, name: str) -> bool:
        return self.types[name].HasField("tensor_type") and 0 in self._sizes(name)

    def _empty(self, name: str) -> np.ndarray[Any, Any]:
        dtype = helper.tensor_dtype_to_np_dtype(self.types[name].tensor_type.elem_type)
        return np.zeros(self._sizes(name), dtype)

    def _keep(self, node: onnx.NodeProto) -> None:
        """Append ``node``, without operands of size 0 that say nothing."""
        for name in filter(None, node.output):
            _check_tensor(self.types[name], f"'{name}', made by {node.op_type} '{node.name}',")
        empty = [n for n in node.input if n in self.constants and self._is_empty(n)]
        if empty:
            node = _without_empty(node, set(empty))
        left = [
            n for n in node.input if n in empty and self._elem_type(n) != onnx.TensorProto.INT64
        ]
        if left:
            raise InputError(
                f"{node.op_type} '{node.name}' reads '{left[0]}', which has size 0 (shape "
                f"{self._sizes(left[0])}); expected tensors that hold values"
            )
        self.nodes.append(node)

    def _elem_type(self, name: str) -> int:
        return int(self.types[name].tensor_type.elem_type)

    def _sizes(self, name: str) -> list[int]:
        return [d.dim_value for d in self.types[name].tensor_type.shape.dim]


def _without_empty(node: onnx.NodeProto, empty: set[str]) -> onnx.NodeProto:
    """``node`` without operands of size 0 that say nothing: parts of a Concat, a Resize's roi and
    scales that are not given, a scalar's shape."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    if node.op_type == "Concat":
        made.input[:] = [name for name in node.input if name not in empty]
    elif node.op_type == "Resize":
        made.input[1:] = ["" if name in empty else name for name in node.input[1:]]
    elif node.op_type == "Reshape" and node.input[1] in empty:
        made.op_type = "Squeeze"  # to a scalar
        del made.input[1:]
        del made.attribute[:]
    elif node.op_type == "Expand" and node.input[1] in empty:
        made.op_type = "Identity"
        del made.input[1:]
    return made


def _alive(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Copies of the nodes whose results are wanted, in order."""
    wanted = {info.name for info in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(name in wanted for name in node.output):
            kept.append(node)
            wanted.update(outer_names(node))
    for node in reversed(kept):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        yield copy


def constant_value(node: onnx.NodeProto) -> onnx.TensorProto:
    """The value of a Constant node."""
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return named(value, node.output[0])
    if attribute.name.startswith("value_string") or attribute.name == "sparse_value":
        raise UnsupportedOpError(
            f"Constant '{node.name}' holds {attribute.name.removeprefix('value_')} values; "
            "expected numbers in dense form"
        )
    dtype = np.int64 if attribute.name.startswith("value_int") else np.float32
    return numpy_helper.from_array(np.asarray(value, dtype), node.output[0])


def _shape_value(node: onnx.NodeProto, sizes: list[int]) -> np.ndarray[Any, Any]:
    if node.op_type == "Size":
        return np.asarray(prod(sizes), np.int64)
    bounds = {a.name: a.i for a in node.attribute}
    return np.asarray(sizes[bounds.get("start", 0) : bounds.get("end", len(sizes))], np.int64)


def _evaluated(
    node: onnx.NodeProto, version: int, constants: Mapping[str, onnx.TensorProto]
) -> list[np.ndarray[Any, Any]] | None:
    """What ONNX Runtime makes of ``node``; None where it cannot."""
    names = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "folded",
        [],
        [onnx.ValueInfoProto(name=name) for name in names],
        [named(tensor, name) for name, tensor in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    model.ir_version = IR_VERSION
    options = session_options()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        found = open_session(model.SerializeToString(), "", options).run(names, {})
    except _REFUSALS:
        return None
    if not all(isinstance(value, np.ndarray) and value.dtype.kind in "fiub" for value in found):
        return None
    return [np.asarray(value) for value in found]


def _is_static(kind: TypeProto) -> bool:
    if not kind.HasField("tensor_type"):
        return kind.WhichOneof("value") is not None
    tensor = kind.tensor_type
    return (
        bool(tensor.elem_type)
        and tensor.HasField("shape")
        and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
    )


def _check_tensor(kind: TypeProto, what: str) -> None:
    """Refuses what is no tensor, no number, or holds nothing."""
    form = kind.WhichOneof("value")
    if form != "tensor_type":
        form = (form or "value of unknown type").removesuffix("_type").replace("_", " ")
        raise UnsupportedOpError(
            f"{what} is a {form}; expected tensors of static shape. Export the model without it"
        )
    if kind.tensor_type.elem_type == onnx.TensorProto.STRING:
        raise UnsupportedOpError(f"{what} holds strings; expected numbers")
    if not _is_static(kind):
        raise InputError(
            f"expected static shapes, but that of {what} is not known; export the model with fixed "
            "input sizes"
        )
    if any(dim.dim_value == 0 for dim in kind.tensor_type.shape.dim):
        sizes = [dim.dim_value for dim in kind.tensor_type.shape.dim]
        raise InputError(
            f"{what} has size 0 (shape {sizes}); expected tensors that hold values. Leave it out "
            "of the model, or export it with another size"
        )


def _unknown(node: onnx.NodeProto, name: str, kind: TypeProto) -> InputError:
    dims = kind.tensor_type.shape.dim
    open_axes = [str(i) for i, dim in enumerate(dims) if not dim.HasField("dim_value")]
    which = f"axis {', '.join(open_axes)} of {name}" if open_axes else f"the shape of {name}"
    return InputError(
        f"{which}, made by {node.op_type} '{node.name}', depends on values known only at run time, "
        "even with all constants folded; expected static shapes throughout. Export the model with "
        "fixed shapes, or without this op"
    )


def _foreign(node: onnx.NodeProto) -> UnsupportedOpError:
    advice = "replace it by standard operators before exporting"
    if node.domain.startswith("com.microsoft"):
        advice = (
            "it is ONNX Runtime's own: compile the model as it was before ONNX Runtime optimised "
            "or quantized it (float32 or float16 weights)"
        )
    return UnsupportedOpError(
        f"{node.domain}.{node.op_type} '{node.name}' is no standard ONNX operator, so neither the "
        f"NPU nor the host can run it; {advice}"
    )
