"""One small function for each kind of graph op: what it is called and attributed in the network.

Each takes a node that legality admits and appends its network ops to the builder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from edgefusion.compiler.frontend.builder import NetworkBuilder
from edgefusion.compiler.frontend.legality import REDUCTIONS, network_function
from edgefusion.compiler.frontend.legality_rules import (
    VIEWS,
    folded_shape,
    reduced_axes,
    stored_constant,
)
from edgefusion.compiler.frontend.nearest import nearest_factor
from edgefusion.compiler.graph.elementwise import unary_function
from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Node, Tensor
from edgefusion.compiler.network.network import NetOp
from edgefusion.compiler.ops.attention import Attention
from edgefusion.compiler.ops.conv import Conv
from edgefusion.compiler.ops.elementwise import Binary, Glu, Softmax, Unary
from edgefusion.compiler.ops.matmul import BatchMatMul, MatMul
from edgefusion.compiler.ops.movement import Concat, Reshape, Resize, Slice, Transpose
from edgefusion.compiler.ops.norm import GroupNorm, LayerNorm, RmsNorm
from edgefusion.compiler.ops.pooling import Pool, Reduce
from edgefusion.compiler.ops.transposed_conv import TransposedConv
from edgefusion.runtime.functions import BINARY_BY_OP, UNARY_BY_OP

Convert = Callable[[NetworkBuilder, Node], None]


def _epilogue(
    node: Node, tokens: tuple[str, ...]
) -> tuple[dict[str, Tensor], list[tuple[str, Tensor | None]]]:
    """The bias, if there is one, and (function, operand) of each step; operands start at index 2,
    statistics are the second result."""
    operands = iter(node.inputs[2:])
    bias: dict[str, Tensor] = {}
    steps: list[tuple[str, Tensor | None]] = []
    for token in tokens:
        if token == "bias":
            bias["bias"] = next(operands)
        elif token == "add":
            steps.append((token, next(operands)))
        elif token == "stats":
            steps.append((token, node.outputs[1]))
        elif token != "up2":
            steps.append((network_function(token), None))
    return bias, steps


def conv(b: NetworkBuilder, node: Node) -> None:
    """ConvLast_*."""
    _, tokens = kind_and_tokens(node.op)
    bias, steps = _epilogue(node, tokens)
    attributes = {
        "strides": node.get_ints("strides"),
        "pads": node.get_ints("pads"),
        "dilations": node.get_ints("dilations"),
        "groups": node.get_int("group"),
        "upsample": 2 if tokens[:1] == ("up2",) else 1,
    }
    b.op(node, Conv, {"x": node.inputs[0], "w": node.inputs[1], **bias}, attributes, steps)


def transposed_conv(b: NetworkBuilder, node: Node) -> None:
    """ConvTransposeLast_*."""
    _, tokens = kind_and_tokens(node.op)
    bias, steps = _epilogue(node, tokens)
    attributes = {key: node.get_ints(key) for key in ("strides", "pads", "output_padding")}
    operands = {"x": node.inputs[0], "w": node.inputs[1], **bias}
    b.op(node, TransposedConv, operands, attributes, steps)


def matmul(b: NetworkBuilder, node: Node) -> None:
    """MatMul and MatMul_*: with one constant matrix of weights, or a matrix for each."""
    _, tokens = kind_and_tokens(node.op)
    if stored_constant(node.inputs[1]) is None or node.inputs[1].rank > 2:
        b.op(node, BatchMatMul, {"a": node.inputs[0], "b": node.inputs[1]})
        return
    bias, steps = _epilogue(node, tokens)
    b.op(node, MatMul, {"x": node.inputs[0], "w": node.inputs[1], **bias}, {}, steps)


def attention(b: NetworkBuilder, node: Node) -> None:
    """Attention and Attention_mask."""
    operands = dict(zip(("q", "k", "v", "mask"), node.inputs, strict=False))
    attributes = {"heads": node.get_int("num_heads"), "scale": node.get_float("scale")}
    b.op(node, Attention, operands, attributes)


def group_norm(b: NetworkBuilder, node: Node) -> None:
    """GroupNormLast_*; given statistics are the fourth operand."""
    _, tokens = kind_and_tokens(node.op)
    function = next((network_function(token) for token in tokens if token != "stats"), "")
    x, gamma, beta, *stats = node.inputs
    operands: dict[str, Tensor | list[Tensor]] = {"x": x, "gamma": gamma, "beta": beta}
    operands["stats"] = stats
    attributes = {
        "groups": node.get_int("num_groups"),
        "epsilon": node.get_float("epsilon"),
        "function": function,
    }
    b.op(node, GroupNorm, operands, attributes)


def layer_norm(b: NetworkBuilder, node: Node) -> None:
    """LayerNormalization over the last axis."""
    operands = dict(zip(("x", "gamma", "beta"), node.inputs, strict=False))
    b.op(node, LayerNorm, operands, {"epsilon": node.get_float("epsilon", 1e-5)})


def rms_norm(b: NetworkBuilder, node: Node) -> None:
    """RMSNorm."""
    operands = dict(zip(("x", "gamma"), node.inputs, strict=True))
    b.op(node, RmsNorm, operands, {"epsilon": node.get_float("epsilon")})


def softmax(b: NetworkBuilder, node: Node) -> None:
    """Softmax along the last axis."""
    b.op(node, Softmax, {"x": node.inputs[0]})


def unary(b: NetworkBuilder, node: Node) -> None:
    """One activation in, one out."""
    function = unary_function(node)
    assert function is not None
    b.op(node, Unary, {"x": node.inputs[0]}, {"function": function.name})


def binary(b: NetworkBuilder, node: Node) -> None:
    """Two operands, at most one of them constant."""
    operands = dict(zip("ab", node.inputs, strict=True))
    b.op(node, Binary, operands, {"function": BINARY_BY_OP[node.op].name})


def glu(b: NetworkBuilder, node: Node) -> None:
    """GEGLU, GLU_f."""
    _, tokens = kind_and_tokens(node.op)
    function = network_function(tokens[0]) if tokens else "gelu"
    b.op(node, Glu, {"x": node.inputs[0]}, {"function": function})


def _folded_axis(tensor: Tensor, axis: int) -> int:
    """``axis`` of ``tensor`` after dropping the leading ones that ``folded_shape`` drops."""
    return axis % tensor.rank - (tensor.rank - len(folded_shape(tensor)))


def concat(b: NetworkBuilder, node: Node) -> None:
    """Along any axis."""
    axis = _folded_axis(node.output, node.get_int("axis"))
    b.op(node, Concat, {"parts": node.inputs}, {"axis": axis})


def slices(b: NetworkBuilder, node: Node) -> None:
    """Slice: starts and steps for every axis; ends follow from the result's shape."""
    x = node.inputs[0]
    starts, steps = [0] * x.rank, [1] * x.rank
    values = [t.values().reshape(-1).tolist() if not t.is_absent else [] for t in node.inputs[1:]]
    axes = values[2] if len(values) > 2 and values[2] else list(range(len(values[0])))
    given = values[3] if len(values) > 3 and values[3] else [1] * len(axes)
    for axis, start, step in zip(axes, values[0], given, strict=True):
        extent = x.shape[axis]
        starts[axis % x.rank] = min(max(start + extent if start < 0 else start, 0), extent)
        steps[axis % x.rank] = step
    _slice(b, node, node.output, starts, steps, node.name)


def split(b: NetworkBuilder, node: Node) -> None:
    """Split: one slice for each result."""
    x = node.inputs[0]
    axis = node.get_int("axis", 0) % x.rank
    start = 0
    for index, tensor in enumerate(node.outputs):
        starts = [0] * x.rank
        starts[axis] = start
        start += tensor.shape[axis]
        if tensor.consumers or tensor.is_output:
            _slice(b, node, tensor, starts, [1] * x.rank, f"{node.name}:{index}")


def _slice(
    b: NetworkBuilder, node: Node, y: Tensor, starts: list[int], steps: list[int], name: str
) -> None:
    x = node.inputs[0]
    dropped = x.rank - len(folded_shape(x))
    attributes = {"starts": tuple(starts[dropped:]), "steps": tuple(steps[dropped:])}
    b.op(node, Slice, {"x": x}, attributes, output=y, name=name)


def transpose(b: NetworkBuilder, node: Node) -> None:
    """Any permutation of up to four axes."""
    x = node.inputs[0]
    perm = node.get_ints("perm", tuple(reversed(range(x.rank))))
    dropped = x.rank - len(folded_shape(x))
    b.op(node, Transpose, {"x": x}, {"perm": tuple(axis - dropped for axis in perm[dropped:])})


def resize(b: NetworkBuilder, node: Node) -> None:
    """Nearest-neighbour repetition."""
    b.op(node, Resize, {"x": node.inputs[0]}, {"scale": nearest_factor(node)})


def pool(b: NetworkBuilder, node: Node) -> None:
    """PoolLast_max, PoolLast_average."""
    attributes = {
        "function": kind_and_tokens(node.op)[1][0],
        "kernel": node.get_ints("kernel"),
        "strides": node.get_ints("strides"),
        "pads": node.get_ints("pads"),
        "count_include_pad": bool(node.get_int("count_include_pad")),
    }
    b.op(node, Pool, {"x": node.inputs[0]}, attributes)


def reduce(b: NetworkBuilder, node: Node) -> None:
    """Over height and width, or over the last axis."""
    x = node.inputs[0]
    axes = reduced_axes(node)
    assert axes is not None
    attributes = {
        "function": REDUCTIONS[node.op],
        "axes": tuple(_folded_axis(x, axis) for axis in axes),
        "keepdims": bool(node.get_int("keepdims", 1)),
    }
    b.op(node, Reduce, {"x": x}, attributes)


def view(b: NetworkBuilder, node: Node) -> None:
    """The same bytes; keeps the type of its source, whatever precision it was given."""
    x = node.inputs[0]
    name = x.name if x.name in b.tensors else b.operand(x, node)
    assert prod(folded_shape(node.output)) == prod(b.tensors[name].shape)
    made = b.result(node.output, node, b.tensors[name].dtype)
    b.ops.append(NetOp(node.name, Reshape(x=name), (made,), (), node.origin, node.scope))


CONVERT: Mapping[str, Convert] = {
    "ConvLast": conv,
    "ConvTransposeLast": transposed_conv,
    "MatMul": matmul,
    "Attention": attention,
    "GroupNormLast": group_norm,
    "LayerNormalization": layer_norm,
    "RMSNorm": rms_norm,
    "Softmax": softmax,
    **dict.fromkeys(UNARY_BY_OP, unary),
    **dict.fromkeys(BINARY_BY_OP, binary),
    "GEGLU": glu,
    "GLU": glu,
    "Concat": concat,
    "Slice": slices,
    "Split": split,
    "Transpose": transpose,
    "Resize": resize,
    "PoolLast": pool,
    **dict.fromkeys(REDUCTIONS, reduce),
    **dict.fromkeys(VIEWS, view),
}
"""By kind; covers exactly the kinds that ``legality.SUPPORTED`` can admit."""
