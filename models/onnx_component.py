"""Which component of a pipeline a graph of another exporter is, by its inputs and output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from edgefusion.models.onnx_source import read_graph
from edgefusion.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edgefusion.models.noise_scheduler import NoiseScheduler

_FLOATS = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
)
_INTEGERS = (TensorProto.INT32, TensorProto.INT64)


def component_of_onnx(path: Path) -> str:
    """The component whose inputs and output the graph has, `model` for any other graph.

    A text encoder takes input_ids [n, tokens] alone; a U-Net sample [n, c, h, w], timestep (one, or
    one for each of the batch), encoder_hidden_states [n, tokens, width] and perhaps timestep_cond
    [n, width], and makes one tensor of the sample's shape; a decoder latent [n, c, h, w] and makes
    one image. Unknown sizes may be anything.
    """
    graph = read_graph(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in weights}
    names = frozenset(inputs)
    if names == {"input_ids"} and _is(inputs["input_ids"], 2, _INTEGERS):
        return "text_encoder"
    if names == {"latent"} and _is(inputs["latent"], 4) and _makes_one(graph):
        return "vae_decoder"
    unet = {"sample", "timestep", "encoder_hidden_states"}
    if names in (unet, unet | {"timestep_cond"}) and _is_unet(graph, inputs):
        return "unet"
    return "model"


def check_timestep(path: Path, scheduler: NoiseScheduler) -> None:
    """Raises UsageError for a U-Net that takes whole timesteps alone, and a scheduler that has
    others."""
    graph = read_graph(path).graph
    port = next((value for value in graph.input if value.name == "timestep"), None)
    if port is None or port.type.tensor_type.elem_type not in _INTEGERS:
        return
    if scheduler.timestep_dtype != "int64":
        raise UsageError(
            f"{path} takes timesteps that are whole numbers, and {scheduler.name} has fractions of "
            "them; expected a scheduler with whole ones, such as PNDM. Choose another --scheduler, "
            "or export the U-Net with a timestep of type float."
        )


def _is_unet(graph: onnx.GraphProto, inputs: dict[str, onnx.ValueInfoProto]) -> bool:
    sample, timestep = _sizes(inputs["sample"]), _sizes(inputs["timestep"])
    ranked = _is(inputs["sample"], 4) and _is(inputs["encoder_hidden_states"], 3)
    if "timestep_cond" in inputs and not _is(inputs["timestep_cond"], 2):
        return False
    if not ranked or len(timestep) > 1 or not _agree(timestep, (1,)) | _agree(timestep, sample[:1]):
        return False
    if inputs["timestep"].type.tensor_type.elem_type not in (*_FLOATS, *_INTEGERS):
        return False
    return _makes_one(graph) and _agree(_sizes(graph.output[0]), sample)


def _makes_one(graph: onnx.GraphProto) -> bool:
    return len(graph.output) == 1 and len(_sizes(graph.output[0])) == 4


def _is(value: onnx.ValueInfoProto, rank: int, types: Iterable[int] = _FLOATS) -> bool:
    tensor = value.type.tensor_type
    return tensor.elem_type in types and len(tensor.shape.dim) == rank


def _sizes(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The sizes of a tensor, 0 for unknown ones."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _agree(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether sizes may be the same; a scalar is as good as one element."""
    pairs = zip(one, other, strict=False)
    return (len(one) == len(other) or not one) and all(0 in (a, b) or a == b for a, b in pairs)
