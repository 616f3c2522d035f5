"""The source's own graph in ONNX Runtime: what a bundle is measured against.

For an .onnx file that is the file itself, as its author wrote it; for everything else the export
that the passes start from. Neither has seen a pass, so no mistake of ours in understanding a graph
can be on both sides of a comparison.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from edgefusion.compiler.graph.refused_forms import DRAWING
from edgefusion.models.source import Source
from edgefusion.models.text_to_image import Network
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.running.float_network import float_network

_NARROW = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_QUANTIZING = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})


def source_network(source: Source, exported: Path, say: Say) -> Network:
    """The graph that entered, optimisations off. ``exported`` is what ``models.export`` made of
    it, which stands in for a file that ONNX Runtime does not read as it lies there.

    Raises InputError for a graph that ONNX Runtime cannot run.
    """
    if source.kind == "onnx" and source.path is not None:
        try:
            return float_network(source.path, None, str(source.path), as_written=True)
        except InputError as error:
            say(f"warning: {error}. Its checked copy is the reference instead")
    return float_network(exported, None, f"the export of {source.name}", as_written=True)


def draws_numbers(model: onnx.ModelProto) -> bool:
    """Whether the graph gives other values every time it is run."""
    return any(node.op_type in DRAWING for node in model.graph.node)


def rounds_values(path: Path) -> bool:
    """Whether the graph computes in less than FP32, so that two ways to run it differ."""
    graph = onnx.load(path, load_external_data=False).graph
    narrow = any(tensor.data_type in _NARROW for tensor in graph.initializer) or any(
        info.type.tensor_type.elem_type in _NARROW for info in (*graph.input, *graph.output)
    )
    return narrow or any(
        node.op_type in _QUANTIZING
        or any(a.name == "to" and a.i in _NARROW for a in node.attribute)
        for node in graph.node
    )
