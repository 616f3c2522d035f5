"""The network: what is left of a graph once passes are done, as frozen values.

This is the hand-over from the ONNX world (``compiler.graph``, ``passes``) to tiling, allocation and
lowering. Tensors are channels-last, ops are the NPU's own kinds, epilogues are explicit, constants
are named rather than held. Nothing here knows ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from edgefusion.runtime.isa import DType, Role

KINDS: Mapping[str, str] = {
    "conv": "x[1,h,w,ci], w[co,ci/g,kh,kw], [bias[co]] -> y[1,h',w',co]; strides, pads, dilations, "
    "groups, upsample (nearest factor applied to x first)",
    "matmul": "x[...,k], w[k,n], [bias[n]] -> y[...,n]",
    "batch_matmul": "a[b...,m,k], b[b...,k,n] -> y[b...,m,n]; both activations",
    "attention": "q[1,lq,h*d], k[1,lk,h*d], v[1,lk,h*e], [mask[..,lq,lk]] -> y[1,lq,h*e]; heads, "
    "scale",
    "group_norm": "x[1,...,c], gamma[c], beta[c], [stats[2,c]] -> y; groups, epsilon, function "
    "('' or 'silu')",
    "layer_norm": "x[...,c], gamma[c], [beta[c]] -> y; epsilon",
    "softmax": "x[...,n] -> y, along the last axis",
    "unary": "x -> y; function",
    "binary": "a, b -> y with numpy broadcasting; function",
    "glu": "x[...,2c] -> y[...,c] = x[...,:c] * f(x[...,c:]); function",
    "concat": "x... -> y; axis",
    "slice": "x -> y; starts, steps (one for each axis of x)",
    "transpose": "x -> y; perm",
    "resize": "x[1,h,w,c] -> y[1,h*s,w*s,c], nearest; scale",
    "pool": "x[1,h,w,c] -> y; function (max, average), kernel, strides, pads, count_include_pad",
    "reduce": "x[1,h,w,c] -> y[1,1,1,c] or x[...,c] -> y[...,1]; function (mean, sum, max), axes",
    "view": "x -> y: the same bytes under another shape; costs nothing",
    "host": "inputs -> outputs, run on the host; reason",
}
"""Op kinds with their operands; every kind is lowered or named in an UnsupportedOpError."""


@dataclass(frozen=True, slots=True)
class NetTensor:
    """A tensor of the network.

    ``dtype`` is what the NPU stores. Constants (role WEIGHT or TABLE) name their values by
    ``constant``, the key in the bundle's weights; ``scale_tensor`` names the tensor (FP32, role
    TABLE) with the per-channel scales of an INT8 weight. The elements of a ``row_normalised``
    tensor are exponentials, to be divided by the sums of their rows.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    role: Role = Role.ACTIVATION
    constant: str = ""
    scale_tensor: str = ""
    row_normalised: bool = False

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes when stored densely."""
        return self.elements * self.dtype.nbytes


@dataclass(frozen=True, slots=True)
class Epilogue:
    """One step applied to an op's result tile before it leaves SRAM, in order.

    ``function``: ``add`` (``operand`` has the result's shape, or broadcasts over all but its last
    axis), a unary function name, or ``stats`` (``operand`` names the extra output stats[2,c]: sums
    and sums of squares of every channel, for the GroupNorm that follows).
    """

    function: str
    operand: str = ""


@dataclass(frozen=True, slots=True)
class NetOp:
    """One op: ``kind`` of ``KINDS``, operands by tensor name ('' for an absent optional one)."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    epilogue: tuple[Epilogue, ...] = ()
    origin: tuple[str, ...] = ()
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """Ops in execution order. ``tensors`` holds every tensor that an op names."""

    name: str
    tensors: Mapping[str, NetTensor]
    ops: tuple[NetOp, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def tensor(self, name: str) -> NetTensor:
        """The tensor called ``name``."""
        return self.tensors[name]


def statistics_dtype(activation: DType) -> DType:
    """Sums of integer activations are exact integers, those of others FP32."""
    return DType.INT64 if activation == DType.INT16 else DType.FP32


def operands(op: NetOp) -> tuple[str, ...]:
    """Names of all tensors that ``op`` reads, epilogue operands included."""
    reads = [name for name in op.inputs if name]
    reads += [e.operand for e in op.epilogue if e.operand and e.function != "stats"]
    return tuple(reads)


def stage_names(op: NetOp) -> tuple[str, ...]:
    """Names of the op's result before its epilogue and after each step but statistics.

    The last is the op's output; the others never leave SRAM, but each has a scale of its own.
    """
    steps = [step for step in op.epilogue if step.function != "stats"]
    inner = [f"{op.name}:stage{i}" for i in range(len(steps))]
    return (*inner, op.outputs[0])


def results(op: NetOp) -> tuple[str, ...]:
    """Names of all tensors that ``op`` writes, statistics included."""
    return op.outputs + tuple(e.operand for e in op.epilogue if e.function == "stats")


def macs(network: Network, op: NetOp) -> int:
    """Multiply-accumulates of ``op``, attention products included."""
    shape = {name: network.tensor(name).shape for name in (*op.inputs, *op.outputs) if name}
    if op.kind == "conv":
        _, per_group, kh, kw = shape[op.inputs[1]]
        return prod(shape[op.outputs[0]]) * per_group * kh * kw
    if op.kind in ("matmul", "batch_matmul"):
        return prod(shape[op.outputs[0]]) * shape[op.inputs[0]][-1]
    if op.kind == "attention":
        q, k, v = (shape[name] for name in op.inputs[:3])
        return prod(q[:-1]) * k[-2] * (q[-1] + v[-1])
    return 0
