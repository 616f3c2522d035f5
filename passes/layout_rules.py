"""How each op reads in channels-last layout: one small function an op family.

A rule takes a node of the channels-first graph, adds its channels-last twin before it, records the
twin's results as the channels-last forms, and returns ''. It returns a reason where the op has to
stay channels first. ``ANCHORS`` always convert; ``FOLLOWERS`` only when an operand is channels
last already, so that layout never changes for their sake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgefusion.compiler.graph.functions import function_for, kind_and_tokens
from edgefusion.compiler.graph.graph import Node
from edgefusion.passes.layout_forms import Forms, last_axis_of, permuted, to_last, twin
from edgefusion.passes.layout_resize import resize
from edgefusion.passes.layout_windows import conv, conv_transpose, pool
from edgefusion.runtime.functions import BINARY_BY_OP, UNARY_BY_OP

Rule = Callable[[Forms, Node], str]


def group_norm(forms: Forms, node: Node) -> str:
    """GroupNorm_* of any rank from 3."""
    x, *rest = node.inputs
    _, tokens = kind_and_tokens(node.op)
    attrs = {key: node.attrs[key] for key in ("num_groups", "epsilon")}
    twin(forms, node, function_for("GroupNormLast", tokens), [forms.last(x, node), *rest], attrs)
    return ""


def global_pool(forms: Forms, node: Node) -> str:
    """GlobalAveragePool and GlobalMaxPool become reductions."""
    x = node.inputs[0]
    axes = forms.graph.constant(f"{node.name}_axes", np.arange(1, x.rank - 1, dtype=np.int64))
    op = "ReduceMean" if node.op == "GlobalAveragePool" else "ReduceMax"
    twin(forms, node, op, [forms.last(x, node), axes], {"keepdims": 1})
    return ""


def elementwise(forms: Forms, node: Node) -> str:
    """Operands broadcast to the result; parameters that come after the data stay as they are."""
    count = 1 if node.op in ("Clip", "Dropout") else len(node.inputs)
    rank = node.output.rank
    inputs = [
        forms.operand(tensor, rank, node) if index < count and not tensor.is_absent else tensor
        for index, tensor in enumerate(node.inputs)
    ]
    op = forms.graph.functions[node.op] if node.domain else node.op
    twin(forms, node, op, inputs, node.attrs)
    return ""


def along_axis(forms: Forms, node: Node) -> str:
    """Concat, Softmax, LogSoftmax, Split: ``axis`` changes place."""
    rank = node.output.rank
    default = 0 if node.op == "Split" else -1
    attrs = {**node.attrs, "axis": last_axis_of(node.get_int("axis", default), rank)}
    data = len(node.inputs) if node.op == "Concat" else 1
    inputs = [forms.last(t, node) if i < data else t for i, t in enumerate(node.inputs)]
    twin(forms, node, node.op, inputs, attrs)
    return ""


def slices(forms: Forms, node: Node) -> str:
    """Slice: the list of axes changes, its order does not."""
    rank = node.inputs[0].rank
    starts, axes = node.inputs[1], node.input(3)
    if axes is not None and not axes.is_constant:
        return "its axes are not known at compile time"
    listed = axes.values().tolist() if axes is not None else list(range(starts.shape[0]))
    moved = np.asarray([last_axis_of(axis, rank) for axis in listed], np.int64)
    inputs = [forms.last(node.inputs[0], node), *node.inputs[1:3]]
    inputs.append(forms.graph.constant(f"{node.name}_axes", moved))
    twin(forms, node, "Slice", [*inputs, *node.inputs[4:]], node.attrs)
    return ""


def pad(forms: Forms, node: Node) -> str:
    """Pad over all axes."""
    rank = node.inputs[0].rank
    pads = node.inputs[1]
    if node.input(3) is not None or not pads.is_constant:
        return "its axes or widths are not known at compile time"
    both = pads.values().reshape(2, rank)[:, list(to_last(rank))].reshape(-1)
    moved = forms.graph.constant(f"{pads.name}_last", both)
    inputs = [forms.last(node.inputs[0], node), moved, *node.inputs[2:]]
    twin(forms, node, "Pad", inputs, node.attrs)
    return ""


def blocks(forms: Forms, node: Node) -> str:
    """DepthToSpace and SpaceToDepth: transposes, which ``split-transpose`` makes short work of."""
    x, y = node.inputs[0], node.output
    size = node.get_int("blocksize")
    n, channels, height, width = x.shape if node.op == "DepthToSpace" else y.shape
    depth = channels // size**2
    if node.op == "SpaceToDepth":
        shape, perm = (n, height, size, width, size, depth), (0, 1, 3, 2, 4, 5)
    elif node.get_str("mode", "DCR") == "DCR":
        shape, perm = (n, height, width, size, size, depth), (0, 1, 3, 2, 4, 5)
    else:
        shape, perm = (n, height, width, depth, size, size), (0, 1, 4, 2, 5, 3)
    moved = forms.move(forms.view(forms.last(x, node), shape, node), perm, node)
    forms.set_last(y, forms.view(moved, permuted(y.shape, to_last(4)), node))
    return ""


def reduction(forms: Forms, node: Node) -> str:
    """ReduceMean and its kin; without kept axes, the rest must come out in the same order."""
    x, axes = node.inputs[0], node.input(1)
    rank = x.rank
    if axes is None or not axes.is_constant:
        return "its axes are not known at compile time"
    moved = sorted(last_axis_of(axis, rank) for axis in axes.values().reshape(-1).tolist())
    left = [axis for place, axis in enumerate(to_last(rank)) if place not in moved]
    keep = node.get_int("keepdims", 1)
    if not keep and left != sorted(left):
        return "it drops axes and keeps channels among others"
    constant = forms.graph.constant(f"{node.name}_axes", np.asarray(moved, np.int64))
    inputs = [forms.last(x, node), constant]
    if keep:
        twin(forms, node, node.op, inputs, node.attrs)
        return ""
    result = forms.graph.tensor(f"{node.output.name}_last", node.output.shape, node.output.dtype)
    made = forms.graph.add(node.op, inputs, [result], node.attrs, source=[node], before=node)
    forms.twins[node] = made
    forms.replace(node.output, result, node)
    return ""


def reshape(forms: Forms, node: Node) -> str:
    """A Reshape that only folds or splits the spatial axes."""
    x, y = node.inputs[0], node.output
    if y.rank < 3 or x.shape[:2] != y.shape[:2]:
        return "it mixes channels with other axes"
    shape = permuted(y.shape, to_last(y.rank))
    forms.set_last(y, forms.view(forms.last(x, node), shape, node))
    return ""


ANCHORS: Mapping[str, Rule] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "GroupNorm": group_norm,
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "Resize": resize,
    "DepthToSpace": blocks,
    "SpaceToDepth": blocks,
}

_OTHER_ELEMENTWISE = (
    "Abs And Cast Ceil Cos Dropout Elu Equal Erf Floor Greater GreaterOrEqual Identity IsNaN "
    "LeakyRelu Less LessOrEqual Log Mean Mod Neg Not Or PRelu Pow Reciprocal Round Selu Sign Sin "
    "Softsign Sqrt Sum Where"
)
_ELEMENTWISE = (*UNARY_BY_OP, *BINARY_BY_OP, *_OTHER_ELEMENTWISE.split())

FOLLOWERS: Mapping[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    **dict.fromkeys(("Concat", "Softmax", "LogSoftmax", "Split"), along_axis),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"), reduction),
    "Slice": slices,
    "Pad": pad,
    "Reshape": reshape,
    "Flatten": reshape,
    "Unsqueeze": reshape,
    "Squeeze": reshape,
}
