"""One small function for each kind of graph op: what it is called and attributed in the network.

Each takes a node that legality admits and appends its network ops to the builder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from edgefusion.compiler.graph.elementwise import unary_function
from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Node, Tensor
from edgefusion.compiler.network.builder import ACTIVATION_DTYPE, NetworkBuilder
from edgefusion.compiler.network.legality import REDUCTIONS, network_function
from edgefusion.compiler.network.legality_rules import (
    folded_shape,
    nearest_factor,
    reduced_axes,
    stored_constant,
)
from edgefusion.compiler.network.network import Epilogue, NetTensor, statistics_dtype
from edgefusion.runtime.functions import BINARY_BY_OP, UNARY_BY_OP

Convert = Callable[[NetworkBuilder, Node], None]


def _epilogue(
    b: NetworkBuilder, node: Node, tokens: tuple[str, ...]
) -> tuple[str, tuple[Epilogue, ...]]:
    """The bias operand ('' if none) and the steps for ``tokens``; operands start at index 2."""
    operands = iter(node.inputs[2:])
    bias, steps = "", []
    for token in tokens:
        if token == "up2":
            continue
        if token == "bias":
            bias = b.operand(next(operands), node, "bias")
        elif token == "add":
            steps.append(Epilogue("add", b.operand(next(operands), node)))
        elif token == "stats":
            statistics = node.outputs[1]
            steps.append(Epilogue("stats", statistics.name))
            dtype = statistics_dtype(ACTIVATION_DTYPE[b.precision_of(node)])
            b.tensors[statistics.name] = NetTensor(statistics.name, statistics.shape, dtype)
        else:
            steps.append(Epilogue(network_function(token)))
    return bias, tuple(steps)


def _with_bias(*names: str) -> tuple[str, ...]:
    return names if names[-1] else names[:-1]


def conv(b: NetworkBuilder, node: Node) -> None:
    """ConvLast_*."""
    _, tokens = kind_and_tokens(node.op)
    x, w = b.operand(node.inputs[0], node), b.operand(node.inputs[1], node, "weight")
    bias, steps = _epilogue(b, node, tokens)
    attrs = {
        "strides": node.get_ints("strides"),
        "pads": node.get_ints("pads"),
        "dilations": node.get_ints("dilations"),
        "groups": node.get_int("group"),
        "upsample": 2 if tokens[:1] == ("up2",) else 1,
    }
    b.op(node, "conv", _with_bias(x, w, bias), attrs, steps)


def matmul(b: NetworkBuilder, node: Node) -> None:
    """MatMul and MatMul_*: with constant weights, or of two activations."""
    _, tokens = kind_and_tokens(node.op)
    x = b.operand(node.inputs[0], node)
    if stored_constant(node.inputs[1]) is None:
        b.op(node, "batch_matmul", (x, b.operand(node.inputs[1], node)))
        return
    w = b.operand(node.inputs[1], node, "weight")
    bias, steps = _epilogue(b, node, tokens)
    b.op(node, "matmul", _with_bias(x, w, bias), {}, steps)


def attention(b: NetworkBuilder, node: Node) -> None:
    """Attention and Attention_mask."""
    attrs = {"heads": node.get_int("num_heads"), "scale": node.get_float("scale")}
    b.op(node, "attention", tuple(b.operand(t, node) for t in node.inputs), attrs)


def group_norm(b: NetworkBuilder, node: Node) -> None:
    """GroupNormLast_*; given statistics are the fourth operand."""
    _, tokens = kind_and_tokens(node.op)
    function = next((network_function(token) for token in tokens if token != "stats"), "")
    x, gamma, beta = node.inputs[:3]
    inputs = [b.operand(x, node), b.operand(gamma, node, "norm"), b.operand(beta, node, "norm")]
    inputs += [tensor.name for tensor in node.inputs[3:]]
    attrs = {
        "groups": node.get_int("num_groups"),
        "epsilon": node.get_float("epsilon"),
        "function": function,
    }
    b.op(node, "group_norm", tuple(inputs), attrs)


def layer_norm(b: NetworkBuilder, node: Node) -> None:
    """LayerNormalization over the last axis."""
    inputs = [b.operand(node.inputs[0], node)]
    inputs += [b.operand(t, node, "norm") for t in node.inputs[1:] if not t.is_absent]
    b.op(node, "layer_norm", tuple(inputs), {"epsilon": node.get_float("epsilon", 1e-5)})


def softmax(b: NetworkBuilder, node: Node) -> None:
    """Softmax along the last axis."""
    b.op(node, "softmax", (b.operand(node.inputs[0], node),))


def unary(b: NetworkBuilder, node: Node) -> None:
    """One activation in, one out."""
    function = unary_function(node)
    assert function is not None
    b.op(node, "unary", (b.operand(node.inputs[0], node),), {"function": function.name})


def binary(b: NetworkBuilder, node: Node) -> None:
    """Two operands, at most one of them constant."""
    inputs = tuple(b.operand(t, node) for t in node.inputs)
    b.op(node, "binary", inputs, {"function": BINARY_BY_OP[node.op].name})


def glu(b: NetworkBuilder, node: Node) -> None:
    """GEGLU, GLU_f."""
    _, tokens = kind_and_tokens(node.op)
    function = network_function(tokens[0]) if tokens else "gelu"
    b.op(node, "glu", (b.operand(node.inputs[0], node),), {"function": function})


def _folded_axis(tensor: Tensor, axis: int) -> int:
    """``axis`` of ``tensor`` after dropping the leading ones that ``folded_shape`` drops."""
    return axis % tensor.rank - (tensor.rank - len(folded_shape(tensor)))


def concat(b: NetworkBuilder, node: Node) -> None:
    """Along any axis."""
    inputs = tuple(b.operand(t, node) for t in node.inputs)
    b.op(node, "concat", inputs, {"axis": _folded_axis(node.output, node.get_int("axis"))})


def slices(b: NetworkBuilder, node: Node) -> None:
    """Slice: starts and steps for every axis; ends follow from the result's shape."""
    x = node.inputs[0]
    starts, steps = [0] * x.rank, [1] * x.rank
    values = [t.values().reshape(-1).tolist() if not t.is_absent else [] for t in node.inputs[1:]]
    axes = values[2] if len(values) > 2 and values[2] else list(range(len(values[0])))
    given = values[3] if len(values) > 3 and values[3] else [1] * len(axes)
    for axis, start, step in zip(axes, values[0], given, strict=True):
        extent = x.shape[axis]
        starts[axis % x.rank] = min(start + extent if start < 0 else start, extent)
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
    attrs = {"starts": tuple(starts[dropped:]), "steps": tuple(steps[dropped:])}
    b.op(node, "slice", (b.operand(x, node),), attrs, output=y, name=name)


def transpose(b: NetworkBuilder, node: Node) -> None:
    """Any permutation of up to four axes."""
    x = node.inputs[0]
    perm = node.get_ints("perm", tuple(reversed(range(x.rank))))
    dropped = x.rank - len(folded_shape(x))
    attrs = {"perm": tuple(axis - dropped for axis in perm[dropped:])}
    b.op(node, "transpose", (b.operand(x, node),), attrs)


def resize(b: NetworkBuilder, node: Node) -> None:
    """Nearest-neighbour repetition."""
    b.op(node, "resize", (b.operand(node.inputs[0], node),), {"scale": nearest_factor(node)})


def pool(b: NetworkBuilder, node: Node) -> None:
    """PoolLast_max, PoolLast_average."""
    attrs = {
        "function": kind_and_tokens(node.op)[1][0],
        "kernel": node.get_ints("kernel"),
        "strides": node.get_ints("strides"),
        "pads": node.get_ints("pads"),
        "count_include_pad": node.get_int("count_include_pad"),
    }
    b.op(node, "pool", (b.operand(node.inputs[0], node),), attrs)


def reduce(b: NetworkBuilder, node: Node) -> None:
    """Over height and width, or over the last axis."""
    x = node.inputs[0]
    axes = reduced_axes(node)
    assert axes is not None
    attrs = {
        "function": REDUCTIONS[node.op],
        "axes": tuple(_folded_axis(x, axis) for axis in axes),
    }
    b.op(node, "reduce", (b.operand(x, node),), attrs)


def view(b: NetworkBuilder, node: Node) -> None:
    """The same bytes; keeps the type of its source, whatever precision it was given."""
    x = node.inputs[0]
    name = x.name if x.name in b.tensors else b.operand(x, node)
    assert prod(folded_shape(node.output)) == prod(b.tensors[name].shape)
    b.op(node, "view", (name,), dtype=b.tensors[name].dtype)


CONVERT: Mapping[str, Convert] = {
    "ConvLast": conv,
    "MatMul": matmul,
    "Attention": attention,
    "GroupNormLast": group_norm,
    "LayerNormalization": layer_norm,
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
    **dict.fromkeys(
        ("Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity", "Dropout", "Cast"), view
    ),
}
"""By kind; covers exactly the kinds that ``legality.SUPPORTED`` can admit."""
