"""How much an error of one tensor moves a network's output: measured, not assumed.

The FP32 reference runs once as it is and once for each tensor of interest with normal noise of that
tensor's error power added to it alone. Unlike the op's own SQNR, the difference at the output
counts what the rest of the network does with an error: some amplify it by 30 dB, others divide it
away in the next norm. (HAWQ ranks layers by second derivatives for the same purpose; a forward
difference needs no gradient and includes saturation.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.runtime.accuracy import noise_of
from edgefusion.toolchain.accuracy.float_reference import ReferenceGraph
from edgefusion.toolchain.running.segments import session

Array = npt.NDArray[Any]
_SEED = 0

FP16_NOISE = 2.0**-22 / 6
"""Noise to signal ratio of rounding to FP16 (74 dB): 2^-11 of the power of two below a value, a
third of its square, halved as values lie evenly between powers of two."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What an op's own error makes of the output's noise to signal ratio: as it is, and were the
    op's result rounded to FP16 instead."""

    as_is: float = 0.0
    in_fp16: float = 0.0

    @classmethod
    def of(cls, share: float, own_noise: float, signal: float) -> Contribution:
        """From the measured ``share`` of an op with that noise and signal power."""
        return cls(share, share * FP16_NOISE * signal / own_noise)


def output_noise(
    reference: ReferenceGraph,
    deviations: Mapping[str, float],
    inputs: Mapping[str, Array],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Noise to signal ratio of the first output, by tensor, when that tensor alone is disturbed.

    ``deviations`` are root mean square errors by tensor of the reference's graph (outputs of its
    nodes, or inputs); tensors of unknown shape or name are left out of the result.
    """
    model, shapes = _disturbed(reference.model, tuple(deviations))
    runner = session(model, reference.folder)
    output = model.graph.output[0].name
    wanted = {info.name for info in runner.get_inputs()}
    feeds = {name: value for name, value in inputs.items() if name in wanted}
    calm = {_port(name): np.zeros(shape, np.float32) for name, shape in shapes.items()}
    exact = np.asarray(runner.run([output], {**feeds, **calm})[0])
    rng = np.random.default_rng(_SEED)
    found: dict[str, float] = {}
    for number, (name, shape) in enumerate(shapes.items()):
        if progress is not None:
            progress(number, len(shapes))
        noise = (deviations[name] * rng.standard_normal(shape)).astype(np.float32)
        moved = np.asarray(runner.run([output], {**feeds, **calm, _port(name): noise})[0])
        difference = noise_of(exact, moved)
        found[name] = difference.noise / difference.signal if difference.signal else 0.0
    return found


def _port(tensor: str) -> str:
    """Name of the input that holds the noise of ``tensor``."""
    return f"{tensor}:noise"


def _disturbed(
    model: onnx.ModelProto, names: tuple[str, ...]
) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]:
    """``model`` with an input added to each of the tensors, and their shapes."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    known = dict(_float_shapes(model.graph))
    outputs = {info.name for info in model.graph.output}
    shapes = {name: known[name] for name in names if name in known and name not in outputs}
    nodes = list(made.graph.node)
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in shapes:
                node.input[index] = f"{name}:disturbed"
    for name, shape in shapes.items():
        made.graph.input.append(
            onnx.helper.make_tensor_value_info(_port(name), onnx.TensorProto.FLOAT, list(shape))
        )
    sums = {
        name: onnx.helper.make_node("Add", [name, _port(name)], [f"{name}:disturbed"])
        for name in shapes
    }
    del made.graph.node[:]
    made.graph.node.extend(sums[i.name] for i in model.graph.input if i.name in sums)
    for node in nodes:
        made.graph.node.append(node)
        made.graph.node.extend(sums[name] for name in node.output if name in sums)
    return made, shapes


def _float_shapes(graph: onnx.GraphProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    for info in (*graph.input, *graph.value_info, *graph.output):
        tensor = info.type.tensor_type
        if tensor.elem_type == onnx.TensorProto.FLOAT:
            yield info.name, tuple(int(dim.dim_value) for dim in tensor.shape.dim)
