"""A calibrated component as standard ONNX: INT8 weights and INT16 activations by QDQ pairs.

The optimised graph is expanded to standard ops, and every value that the NPU stores as INT16 goes
through QuantizeLinear and DequantizeLinear with the scale of its tensor in the program. Operator
set 21 brings the INT16 types; ONNX Runtime runs the result in floating point between the pairs, so
it has the NPU's roundings of stored values, not those inside an op.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.graph.expand_functions import expand_functions
from edgefusion.compiler.graph.file import metadata, write
from edgefusion.compiler.graph.names import converted
from edgefusion.compiler.graph.node import PREFIX
from edgefusion.compiler.graph.weights import values_by_name
from edgefusion.runtime.errors import InputError, UnsupportedOpError, UsageError
from edgefusion.runtime.files import put_together
from edgefusion.runtime.isa import DType
from edgefusion.runtime.partials import partial_folder
from edgefusion.runtime.program import Program
from edgefusion.runtime.tensor_numbers import UNCALIBRATED

QDQ_OPSET = 21
CHANGED_OPS = frozenset({"GroupNormalization"})
"""Ops that mean something else in ``QDQ_OPSET`` than in the one that graphs are written in."""

ZERO_POINT = "edgefusion:zero"


@dataclass(frozen=True, slots=True)
class QdqFiles:
    """A component as it was written, and how many values pass through a QDQ pair."""

    graph: Path
    weights: Path
    pairs: int


def int16_scales(program: Program) -> dict[str, float]:
    """The scale of every INT16 tensor of ``program``, by its name in the graph.

    Raises:
        InputError: a scale is still a placeholder: the bundle is not calibrated.
        UsageError: the program has no INT16 tensors.
    """
    scales: dict[str, float] = {}
    for record in program.tensors:
        if record.dtype != DType.INT16:
            continue
        if record.numbers == UNCALIBRATED:
            raise InputError(
                f"tensor {record.name} of {program.component} has no scale yet, so its INT16 "
                "values mean nothing. Compile with --calibration-prompts, then export again."
            )
        if record.numbers.scale is not None:  # others are normalised row by row
            scales[record.constant or record.name] = record.numbers.scale
    if not scales:
        raise UsageError(
            f"{program.component} computes in FP16: there is nothing to quantize. Choose a w8a16 "
            "component with --components."
        )
    return scales


def export_qdq(bundle: Bundle, component: str, directory: Path) -> QdqFiles:
    """Write ``<component>.qdq.onnx`` and its weights to ``directory``, which exists.

    Raises what ``int16_scales`` raises, and OSError.
    """
    scales = int16_scales(bundle.program(component, verify=False))
    model = qdq_model(bundle.graph_model(component), scales)
    values = values_by_name(model.graph.initializer, bundle.path.parent)
    graph = directory / f"{component}.qdq.onnx"
    weights = directory / f"{component}.qdq.safetensors"
    with partial_folder(directory) as whole:
        write(model, values, whole / graph.name, whole / weights.name)
        put_together({whole / weights.name: weights, whole / graph.name: graph})
    pairs = sum(node.op_type == "QuantizeLinear" for node in model.graph.node)
    return QdqFiles(graph, weights, pairs)


def qdq_model(model: onnx.ModelProto, scales: Mapping[str, float]) -> onnx.ModelProto:
    """``model``, which the passes have left, as standard ops with a QDQ pair at each of ``scales``.

    A scale called ``x:int16`` is for the readers of ``x`` that compute in W8A16; any other is for
    all readers, and for the result itself if ``x`` is one of the graph's.
    """
    result = expand_functions(model)
    changed = sorted({n.op_type for n in result.graph.node} & CHANGED_OPS)
    if changed:
        raise UnsupportedOpError(
            f"{changed[0]} has another meaning in operator set {QDQ_OPSET}, which INT16 needs; "
            "export the model with standard ops of which it consists"
        )
    for entry in result.opset_import:
        if not entry.domain:
            entry.version = QDQ_OPSET
    del result.graph.value_info[:]
    _Inserter(result.graph, scales).run()
    return result


class _Inserter:
    """Puts QDQ pairs into a graph of standard ops."""

    def __init__(self, graph: onnx.GraphProto, scales: Mapping[str, float]) -> None:
        self.graph, self.scales = graph, scales
        self.outputs = {info.name for info in graph.output}
        self.ready: dict[str, str] = {}  # name that was asked for -> name behind its pair
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        """Rewrite the graph's nodes in order: makers come before readers, pairs between them."""
        zero = np.zeros((), np.int16)
        self.graph.initializer.append(numpy_helper.from_array(zero, ZERO_POINT))
        for source in list(self.graph.node):
            node = onnx.NodeProto()
            node.CopyFrom(source)
            integer = metadata(node).get(f"{PREFIX}precision") == "w8a16"
            node.input[:] = [self._read(name, integer=integer) for name in node.input]
            self._write(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)

    def _read(self, name: str, *, integer: bool) -> str:
        """What a node reads instead of ``name``."""
        if name in self.scales:
            return name if name in self.outputs else self._behind_pair(name, name)
        here = converted(name, DType.INT16.name)
        if integer and here in self.scales:
            return self._behind_pair(name, here)
        return name

    def _write(self, node: onnx.NodeProto) -> None:
        """Append ``node``; a result of the graph that has a scale passes through its pair."""
        made = [n for n in node.output if n in self.outputs and n in self.scales]
        names = {name: f"{name}:real" for name in made}
        node.output[:] = [names.get(name, name) for name in node.output]
        self.nodes.append(node)
        for name in made:
            self._pair(names[name], name, name)

    def _behind_pair(self, name: str, scale: str) -> str:
        if scale not in self.ready:
            self.ready[scale] = f"{scale}:dequantized"
            self._pair(name, self.ready[scale], scale)
        return self.ready[scale]

    def _pair(self, source: str, target: str, scale: str) -> None:
        step = np.asarray(self.scales[scale], np.float32)
        self.graph.initializer.append(numpy_helper.from_array(step, f"{scale}:scale"))
        parameters = [f"{scale}:scale", ZERO_POINT]
        stored = f"{scale}:stored"
        for op, x, y in (("QuantizeLinear", source, stored), ("DequantizeLinear", stored, target)):
            self.nodes.append(helper.make_node(op, [x, *parameters], [y], f"{scale}:{op}"))
