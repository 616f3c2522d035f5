"""How each op reads in channels-last layout: one small function an op family.

A rule takes a node of the channels-first graph, adds its channels-last twin before it, records the
twin's results as the channels-last forms, and returns ''. It returns a reason where the op has to
stay channels first. ``ANCHORS`` always convert; ``FOLLOWERS`` only when an operand is channels
last already, so that layout never changes for their sake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from edgefusion.compiler.frontend.nearest import nearest_factor
from edgefusion.compiler.graph.functions import function_for, kind_and_tokens
from edgefusion.compiler.graph.graph import Attribute, Node, Tensor
from edgefusion.compiler.graph.weights import Array
from edgefusion.passes.layout_forms import Forms, last_axis_of, permuted, to_last
from edgefusion.runtime.functions import BINARY_BY_OP, UNARY_BY_OP

Rule = Callable[[Forms, Node], str]


def _given_auto_pad(node: Node) -> str:
    return node.get_str("auto_pad", "NOTSET") if "auto_pad" in node.attrs else "NOTSET"


def spatial_pads(node: Node, kernel: Sequence[int]) -> tuple[int, ...]:
    """Explicit pads of a convolution or pool, ``auto_pad`` resolved (ONNX operators, Conv)."""
    rank = len(kernel)
    mode = _given_auto_pad(node)
    if mode in ("NOTSET", ""):
        return node.get_ints("pads", (0,) * (2 * rank))
    if mode == "VALID":
        return (0,) * (2 * rank)
    strides = node.get_ints("strides", (1,) * rank)
    dilations = node.get_ints("dilations", (1,) * rank)
    begin, end = [], []
    for axis, size in enumerate(node.inputs[0].shape[2:]):
        out = -(-size // strides[axis])
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        total = max((out - 1) * strides[axis] + reach - size, 0)
        low = total // 2 if mode == "SAME_UPPER" else total - total // 2
        begin.append(low)
        end.append(total - low)
    return (*begin, *end)


def conv(forms: Forms, node: Node) -> str:
    """Conv and fused Conv_*: operands that broadcast to the result change layout with it."""
    x, weight, *rest = node.inputs
    if x.rank != 4:
        return f"the NPU convolves over two spatial axes, this has {x.rank - 2}"
    _, tokens = kind_and_tokens(node.op)
    if not node.domain and node.input(2) is not None:
        tokens = ("bias",)
    rest = [tensor for tensor in rest if not tensor.is_absent]
    reads = [token for token in tokens if token in ("bias", "add")]
    operands = [
        tensor if token == "bias" else forms.operand(tensor, 4, node)
        for token, tensor in zip(reads, rest, strict=True)
    ]
    attrs: dict[str, Attribute] = {
        "strides": list(node.get_ints("strides", (1, 1))),
        "pads": list(spatial_pads(node, weight.shape[2:])),
        "dilations": list(node.get_ints("dilations", (1, 1))),
        "group": node.get_int("group", 1),
    }
    twin(
        forms,
        node,
        function_for("ConvLast", tokens),
        [forms.last(x, node), weight, *operands],
        attrs,
    )
    return ""


def conv_transpose(forms: Forms, node: Node) -> str:
    """ConvTranspose: filters come first, their taps in the order in which a result meets them."""
    x, weight, *rest = node.inputs
    if x.rank != 4:
        return f"the NPU convolves over two spatial axes, this has {x.rank - 2}"
    if x.shape[0] != 1:
        return f"the batch size is {x.shape[0]}, the NPU runs one"
    if not weight.is_constant:
        return "its weights are computed at run time"
    if node.get_int("group", 1) != 1 or node.get_ints("dilations", (1, 1)) != (1, 1):
        return "the NPU transposes convolutions without groups and dilation"
    if _given_auto_pad(node) not in ("NOTSET", "VALID", "") or "output_shape" in node.attrs:
        return "its padding follows from the shape of its result"
    values = weight.lazy
    shape = (weight.shape[1], weight.shape[0], *weight.shape[2:])
    filters = forms.graph.deferred_constant(
        f"{weight.name}_filters", shape, weight.dtype, lambda: turned(values.load())
    )
    attrs: dict[str, Attribute] = {
        "strides": list(node.get_ints("strides", (1, 1))),
        "pads": list(spatial_pads(node, shape[2:])),
        "output_padding": list(node.get_ints("output_padding", (0, 0))),
    }
    bias = [tensor for tensor in rest if not tensor.is_absent]
    function = function_for("ConvTransposeLast", ("bias",) if bias else ())
    twin(forms, node, function, [forms.last(x, node), filters, *bias], attrs)
    return ""


def turned(filters: Array) -> Array:
    """Filters [ci, co, kh, kw] of ConvTranspose as ConvTransposeLast's [co, ci, kh, kw]."""
    return np.ascontiguousarray(filters[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))


def group_norm(forms: Forms, node: Node) -> str:
    """GroupNorm_* of any rank from 3."""
    x, *rest = node.inputs
    _, tokens = kind_and_tokens(node.op)
    attrs = {key: node.attrs[key] for key in ("num_groups", "epsilon")}
    twin(forms, node, function_for("GroupNormLast", tokens), [forms.last(x, node), *rest], attrs)
    return ""


def pool(forms: Forms, node: Node) -> str:
    """MaxPool and AveragePool."""
    x = node.inputs[0]
    if x.rank != 4:
        return f"the NPU pools over two spatial axes, this has {x.rank - 2}"
    if node.get_ints("dilations", (1, 1)) != (1, 1):
        return "the NPU pools without dilation"
    if len(node.outputs) > 1 and (node.outputs[1].consumers or node.outputs[1].is_output):
        return "the NPU does not return the indices of maxima"
    kernel = node.get_ints("kernel_shape")
    pads = list(spatial_pads(node, kernel))
    strides = node.get_ints("strides", (1, 1))
    exact = [
        (size + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1
        for i, size in enumerate(x.shape[2:])
    ]
    if list(node.output.shape[2:]) != exact:
        return "the NPU does not pool windows that reach beyond the padding (ceil_mode)"
    attrs: dict[str, Attribute] = {
        "kernel": list(kernel),
        "strides": list(strides),
        "pads": pads,
        "count_include_pad": node.get_int("count_include_pad", 0),
    }
    token = "max" if node.op == "MaxPool" else "average"
    twin(forms, node, function_for("PoolLast", (token,)), [forms.last(x, node)], attrs)
    return ""


def global_pool(forms: Forms, node: Node) -> str:
    """GlobalAveragePool and GlobalMaxPool become reductions."""
    x = node.inputs[0]
    axes = forms.graph.constant(f"{node.name}_axes", np.arange(1, x.rank - 1, dtype=np.int64))
    op = "ReduceMean" if node.op == "GlobalAveragePool" else "ReduceMax"
    twin(forms, node, op, [forms.last(x, node), axes], {"keepdims": 1})
    return ""


def resize(forms: Forms, node: Node) -> str:
    """Nearest-neighbour Resize: scales or sizes change places.

    What the NPU does not run stays as it is: Apache TVM reads every Resize as channels first.
    """
    x = node.inputs[0]
    if nearest_factor(node, (2, 3)) is None or x.shape[0] != 1 or "axes" in node.attrs:
        mode = node.get_str("mode", "nearest")
        return f"the NPU repeats the pixels of one image a whole number of times, not '{mode}'"
    inputs: list[Tensor | None] = [forms.last(x, node), None]
    for index in (2, 3):
        tensor = node.input(index)
        if tensor is None:
            inputs.append(None)
            continue
        if not tensor.is_constant:
            return "its scales are not known at compile time"
        values = tensor.values()
        inputs.append(
            forms.graph.constant(f"{tensor.name}_last", values[list(to_last(x.rank))])
            if values.size
            else None
        )
    while inputs[-1] is None:
        inputs.pop()
    twin(forms, node, "Resize", inputs, node.attrs)
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


def twin(
    forms: Forms,
    node: Node,
    op: str | onnx.FunctionProto,
    inputs: Sequence[Tensor | None],
    attrs: Mapping[str, Attribute],
) -> None:
    """Add the channels-last ``op`` for ``node``; its results are the channels-last forms."""
    outputs = [forms.like_last(tensor) for tensor in node.outputs if not tensor.is_absent]
    outputs = outputs[:1] if node.op == "MaxPool" else outputs
    made = forms.graph.add(op, inputs, outputs, attrs, source=[node], before=node)
    forms.twins[node] = made
    for tensor, form in zip(node.outputs, outputs, strict=False):
        forms.set_last(tensor, form)


ANCHORS: Mapping[str, Rule] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "GroupNorm": group_norm,
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "Resize": resize,
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
