"""How convolutions and pools read in channels-last layout (``layout_rules`` says what a rule is).

Over one spatial axis, [n, c, l], they are those of an image one pixel high: [n, 1, l, c].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from edgefusion.compiler.graph.functions import function_for, kind_and_tokens
from edgefusion.compiler.graph.graph import Attribute, Node, Tensor
from edgefusion.compiler.graph.weights import Array
from edgefusion.passes.layout_forms import Forms, twin


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


def _too_many_axes(x: Tensor) -> str:
    """Why windows do not go over the spatial axes of ``x``; '' if they do."""
    if x.rank in (3, 4):
        return ""
    return f"the NPU's windows go over one or two spatial axes, this has {x.rank - 2}"


def _per_axis(node: Node, name: str, default: int) -> list[int]:
    """Attribute ``name``, which has a value for each spatial axis, for height and width."""
    axes = node.inputs[0].rank - 2
    return [default] * (2 - axes) + list(node.get_ints(name, (default,) * axes))


def _pads_of_image(pads: Sequence[int]) -> list[int]:
    """Pads over one or two spatial axes as those above, left, below and right."""
    return list(pads) if len(pads) == 4 else [0, pads[0], 0, pads[1]]


def _filters(forms: Forms, weight: Tensor) -> Tensor:
    """[co, ci, k] as [co, ci, 1, k]; others as they are."""
    if weight.rank == 4 or not weight.is_constant:
        return weight
    shape = (*weight.shape[:2], 1, weight.shape[2])
    return forms.graph.reshaped_constant(f"{weight.name}_2d", weight, shape)


def _window_twin(
    forms: Forms,
    node: Node,
    function: onnx.FunctionProto,
    operands: Sequence[Tensor],
    attrs: Mapping[str, Attribute],
) -> None:
    """The twin ``function`` of ``node``, whose data are an image."""
    x, y = node.inputs[0], node.output
    last = forms.last(x, node)
    if x.rank == 4:
        twin(forms, node, function, [last, *operands], attrs)
        return
    image = forms.view(last, (x.shape[0], 1, *last.shape[1:]), node)
    wide = forms.graph.tensor(f"{y.name}_wide", (y.shape[0], 1, y.shape[2], y.shape[1]), y.dtype)
    made = forms.graph.add(function, [image, *operands], [wide], attrs, source=[node], before=node)
    forms.twins[node] = made
    forms.set_last(y, forms.view(wide, (y.shape[0], y.shape[2], y.shape[1]), node))


def conv(forms: Forms, node: Node) -> str:
    """Conv and fused Conv_*: operands that broadcast to the result change layout with it."""
    x, weight, *rest = node.inputs
    if fault := _too_many_axes(x):
        return fault
    if x.rank == 3 and not weight.is_constant:
        return "its weights are computed at run time"
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
        "strides": _per_axis(node, "strides", 1),
        "pads": _pads_of_image(spatial_pads(node, weight.shape[2:])),
        "dilations": _per_axis(node, "dilations", 1),
        "group": node.get_int("group", 1),
    }
    function = function_for("ConvLast", tokens)
    _window_twin(forms, node, function, [_filters(forms, weight), *operands], attrs)
    return ""


def conv_transpose(forms: Forms, node: Node) -> str:
    """ConvTranspose: filters come first, their taps in the order in which a result meets them."""
    x, weight, *rest = node.inputs
    if fault := _too_many_axes(x):
        return fault
    if x.shape[0] != 1:
        return f"the batch size is {x.shape[0]}, the NPU runs one"
    if not weight.is_constant:
        return "its weights are computed at run time"
    if node.get_int("group", 1) != 1 or set(node.get_ints("dilations", (1,))) != {1}:
        return "the NPU transposes convolutions without groups and dilation"
    if _given_auto_pad(node) not in ("NOTSET", "VALID", "") or "output_shape" in node.attrs:
        return "its padding follows from the shape of its result"
    weight = _filters(forms, weight)
    values = weight.lazy
    shape = (weight.shape[1], weight.shape[0], *weight.shape[2:])
    filters = forms.graph.deferred_constant(
        f"{weight.name}_filters", shape, weight.dtype, lambda: turned(values.load())
    )
    attrs: dict[str, Attribute] = {
        "strides": _per_axis(node, "strides", 1),
        "pads": _pads_of_image(spatial_pads(node, node.inputs[1].shape[2:])),
        "output_padding": _per_axis(node, "output_padding", 0),
    }
    bias = [tensor for tensor in rest if not tensor.is_absent]
    function = function_for("ConvTransposeLast", ("bias",) if bias else ())
    _window_twin(forms, node, function, [filters, *bias], attrs)
    return ""


def turned(filters: Array) -> Array:
    """Filters [ci, co, kh, kw] of ConvTranspose as ConvTransposeLast's [co, ci, kh, kw]."""
    return np.ascontiguousarray(filters[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))


def pool(forms: Forms, node: Node) -> str:
    """MaxPool and AveragePool."""
    x = node.inputs[0]
    if fault := _too_many_axes(x):
        return fault
    if set(node.get_ints("dilations", (1,))) != {1}:
        return "the NPU pools without dilation"
    if len(node.outputs) > 1 and (node.outputs[1].consumers or node.outputs[1].is_output):
        return "the NPU does not return the indices of maxima"
    kernel = node.get_ints("kernel_shape")
    rank = len(kernel)
    pads = spatial_pads(node, kernel)
    strides = node.get_ints("strides", (1,) * rank)
    exact = [
        (size + pads[i] + pads[i + rank] - kernel[i]) // strides[i] + 1
        for i, size in enumerate(x.shape[2:])
    ]
    if list(node.output.shape[2:]) != exact:
        return "the NPU does not pool windows that reach beyond the padding (ceil_mode)"
    attrs: dict[str, Attribute] = {
        "kernel": _per_axis(node, "kernel_shape", 1),
        "strides": _per_axis(node, "strides", 1),
        "pads": _pads_of_image(pads),
        "count_include_pad": node.get_int("count_include_pad", 0),
    }
    token = "max" if node.op == "MaxPool" else "average"
    _window_twin(forms, node, function_for("PoolLast", (token,)), [], attrs)
    return ""
