"""What a host group has to compute: multiply-accumulates, other element work, constants to read.

The counts go into the group's ``CALL`` instruction, so that the simulator knows the time of a
convolution on a CPU from that of a look-up of as many bytes, without knowing ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2, prod

from edgefusion.compiler.frontend.legality_rules import stored_constant
from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Node, Tensor

FUNCTION_OPERATIONS = 10
"""What an exponential or a quotient costs in multiply-accumulates: about a polynomial of that
degree. Every op counts so much an element that is not known to be cheaper."""


@dataclass(frozen=True, slots=True)
class HostWorkload:
    """``operations``, each as much as one FP32 multiply-accumulate, and ``constant_bytes`` that
    are read besides the operands that cross to the host."""

    operations: int
    constant_bytes: int


def host_workload(nodes: Sequence[Node]) -> HostWorkload:
    """The work of ``nodes``. Each constant is read once; of one that is looked up, what is copied
    out counts as the op's result does."""
    read = {
        tensor: tensor.lazy.nbytes
        for node in nodes
        for tensor in node.inputs[node.op in _LOOK_UPS :]
        if not tensor.is_absent and tensor.is_constant
    }
    return HostWorkload(sum(map(operations, nodes)), sum(read.values()))


def operations(node: Node) -> int:
    """Of one node, in multiply-accumulates."""
    kind, _ = kind_and_tokens(node.op)
    if stored_constant(node.outputs[0]) is not None:
        return 0  # unpacked once, when the function is loaded
    count = _MACS.get(kind)
    if count is not None:
        return count(node) + _made(node)
    if kind in _FREE:
        return 0
    if kind in _SORTS:
        read = node.inputs[0]
        return _elements(read) * ceil(log2(max(read.shape[node.get_int("axis", -1)], 2)))
    if kind in _POOLS:
        window = node.get_ints("kernel_shape", ()) or node.get_ints("kernel", (1,))
        return _made(node) * prod(window)
    if kind == "Resize":
        return _made(node) * {"linear": 4, "cubic": 16}.get(node.get_str("mode", "nearest"), 1)
    if kind.startswith(_OVER_INPUTS):
        return sum(_elements(tensor) for tensor in node.inputs if not tensor.is_absent)
    return _made(node) * (1 if kind in _SIMPLE else FUNCTION_OPERATIONS)


def _elements(tensor: Tensor) -> int:
    return prod(tensor.shape)


def _made(node: Node) -> int:
    return sum(_elements(tensor) for tensor in node.outputs if not tensor.is_absent)


def _convolution(node: Node) -> int:
    return _elements(node.outputs[0]) * prod(node.inputs[1].shape[1:])


def _quantized_convolution(node: Node) -> int:
    return _elements(node.outputs[0]) * prod(node.inputs[3].shape[1:])


def _transposed_convolution(node: Node) -> int:
    return _elements(node.inputs[0]) * prod(node.inputs[1].shape[1:])


def _transposed_convolution_last(node: Node) -> int:
    filters = node.inputs[1].shape
    return _elements(node.inputs[0]) * filters[0] * prod(filters[2:])


def _product(node: Node) -> int:
    depth = node.inputs[0].shape[0 if node.op == "Gemm" and node.get_int("transA", 0) else -1]
    return _elements(node.outputs[0]) * depth


def _attention(node: Node) -> int:
    """q [n, lq, h d], k [n, lk, ..], y [n, lq, h e]: scores, their softmax, and the mean of v."""
    q, k = node.inputs[:2]
    heads = node.get_int("num_heads", 1)
    scores = prod(q.shape[:-1]) * k.shape[-2]
    return scores * (q.shape[-1] + node.outputs[0].shape[-1] + FUNCTION_OPERATIONS * heads)


def _einsum(node: Node) -> int:
    """One for every combination of indices; '...' counts with the result."""
    terms = node.get_str("equation").replace(" ", "").split("->")[0].split(",")
    extents: dict[str, int] = {}
    for term, tensor in zip(terms, node.inputs, strict=True):
        head, _, tail = term.partition("...")
        named = [*zip(head, tensor.shape, strict=False)]
        named += [*zip(reversed(tail), reversed(tensor.shape), strict=False)]
        for letter, size in named:
            extents[letter] = max(size, extents.get(letter, 1))
    return max(prod(extents.values()), _elements(node.outputs[0]))


def _recurrent(node: Node) -> int:
    """x [steps, batch, in], w [directions, gates, in], r [directions, gates, hidden]."""
    x, w, r = node.inputs[:3]
    return x.shape[0] * x.shape[1] * (_elements(w) + _elements(r))


_MACS: Mapping[str, Callable[[Node], int]] = {
    **dict.fromkeys(("Conv", "ConvLast", "ConvInteger", "DeformConv"), _convolution),
    "QLinearConv": _quantized_convolution,
    "ConvTranspose": _transposed_convolution,
    "ConvTransposeLast": _transposed_convolution_last,
    **dict.fromkeys(("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul"), _product),
    "Einsum": _einsum,
    "Attention": _attention,
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _recurrent),
}
_LOOK_UPS = frozenset({"Gather", "GatherElements", "GatherND"})
_FREE = frozenset({
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Size", "Dropout",
})  # fmt: skip
_SORTS = frozenset({"TopK", "Unique"})
_POOLS = frozenset({"MaxPool", "AveragePool", "PoolLast", "LpPool"})
_OVER_INPUTS = ("Global", "Reduce", "ArgM", "CumSum", "Compress", "NonZero")
_SIMPLE = frozenset({
    *_LOOK_UPS, "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "ConstantOfShape",
    "DepthToSpace", "Equal", "Expand", "EyeLike", "Floor", "Greater", "GreaterOrEqual", "HardSwish",
    "HardSigmoid", "LeakyRelu", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mul", "Neg", "Not",
    "OneHot", "Or", "PRelu", "Pad", "Range", "Relu", "Round", "ScatterElements", "ScatterND",
    "Sign", "Slice", "SpaceToDepth", "Split", "Sub", "Sum", "ThresholdedRelu", "Tile", "Transpose",
    "Trilu", "Where", "Xor",
})  # fmt: skip
