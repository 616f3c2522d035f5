"""Ops that move or repeat values, written with Slice, Concat and views (``rewriting``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from edgefusion.compiler.graph.graph import Node, Tensor
from edgefusion.passes.matching import is_op, made_by
from edgefusion.passes.rewriting import LARGEST, Rewriting, Rule, around

MAX_COPIES = 64
"""As often as a tensor is repeated, or an edge mirrored, by one copy for each."""


def gather(r: Rewriting) -> str | None:
    """Every so many elements of an activation, or one: a Slice."""
    data, indices = r.node.inputs
    if data.is_constant:
        return None  # a table, in which the host looks up
    if not indices.is_constant:
        return "its indices are not known at compile time"
    axis = r.node.get_int("axis", 0) % data.rank
    extent = data.shape[axis]
    chosen = indices.values().reshape(-1) % extent
    steps = np.unique(np.diff(chosen))
    if len(steps) > 1 or (len(steps) and steps[0] <= 0):
        return "its indices are not equally spaced"
    outer, _, inner = around(data.shape, axis)
    x = r.reshaped(data, (outer, extent, inner))
    step = int(steps[0]) if len(steps) else 1
    return r.last_reshaped(r.sliced(x, 1, int(chosen[0]), len(chosen), step))


def expand(r: Rewriting) -> str:
    """Copies of a tensor along the axes where it has one element."""
    x, y = r.node.inputs[0], r.node.output
    shape = (1,) * (y.rank - x.rank) + x.shape
    return _copied(r, x, shape, [n // m for m, n in zip(shape, y.shape, strict=True)])


def tile(r: Rewriting) -> str:
    """Copies of a tensor along any axes."""
    x, y = r.node.inputs[0], r.node.output
    return _copied(r, x, x.shape, [n // m for m, n in zip(x.shape, y.shape, strict=True)])


def _copied(r: Rewriting, x: Tensor, shape: Sequence[int], counts: Sequence[int]) -> str:
    """``x``, seen as ``shape``, repeated ``counts`` times along each axis, the last axes first."""
    if x.is_constant:
        return "it repeats a constant"
    if max(counts, default=1) > MAX_COPIES:
        return f"it makes {max(counts)} copies; the NPU's compiler writes up to {MAX_COPIES}"
    made, sizes = x, list(shape)
    for axis in reversed(range(len(sizes))):
        if counts[axis] == 1:
            continue
        made = r.reshaped(made, around(sizes, axis))
        made = r.joined([made] * counts[axis], 1)
        sizes[axis] *= counts[axis]
    return r.last_reshaped(made)


def pad(r: Rewriting) -> str:
    """Constants, or the elements at the edges, around a tensor; a negative width cuts."""
    x, y, widths = r.node.inputs[0], r.node.output, r.node.inputs[1]
    value, axes = r.node.input(2), r.node.input(3)
    mode = r.node.get_str("mode", "constant")
    if not widths.is_constant or not (axes is None or axes.is_constant):
        return "its widths are not known at compile time"
    fill = 0.0 if value is None else value.scalar()
    if fill is None:
        return "its value is not known at compile time"
    if not abs(fill) <= LARGEST:
        return f"FP16 does not hold its value {fill:g}"
    listed = range(x.rank) if axes is None else axes.values().reshape(-1) % x.rank
    both = widths.values().reshape(2, -1).T.tolist()
    if mode not in _EDGES and any(max(pair) > 0 for pair in both):
        return f"the NPU's compiler does not know mode '{mode}'"
    if mode != "constant" and max(map(max, both), default=0) > MAX_COPIES:
        return f"it repeats more than {MAX_COPIES} elements of an edge"
    made = x
    for axis, (before, after) in zip(listed, both, strict=True):
        made = _padded(r, made, int(axis), (before, after), mode, fill)
    if made is x:
        return r.last("Identity", [x])
    assert made.shape == y.shape
    return r.last("Identity", [made])


def _padded(
    r: Rewriting, x: Tensor, axis: int, widths: tuple[int, int], mode: str, fill: float
) -> Tensor:
    """``x`` with ``widths`` more elements before and after it along ``axis``."""
    cut = [max(-width, 0) for width in widths]
    if any(cut):
        x = r.sliced(x, axis, cut[0], x.shape[axis] - sum(cut))
    before, after = (max(width, 0) for width in widths)
    if not before and not after:
        return x
    if mode == "constant":
        parts = [[_filled(r, x, axis, width, fill)] if width else [] for width in (before, after)]
    else:
        size, first = x.shape[axis], _EDGES[mode]
        places = (
            [first + i if first else 0 for i in reversed(range(before))],
            [size - 1 - first - i if first else size - 1 for i in range(after)],
        )
        parts = [[r.sliced(x, axis, place, 1) for place in side] for side in places]
    return r.joined([*parts[0], x, *parts[1]], axis)


_EDGES: Mapping[str, int] = {"constant": 0, "edge": 0, "reflect": 1}
"""By mode of Pad: how far from the edge mirroring begins."""


def _filled(r: Rewriting, x: Tensor, axis: int, width: int, fill: float) -> Tensor:
    shape = (*x.shape[:axis], width, *x.shape[axis + 1 :])
    dtype = x.dtype
    return r.graph.deferred_constant(
        f"{r.node.output.name}.edge", shape, dtype, lambda: np.full(shape, fill, dtype)
    )


def einsum(r: Rewriting) -> str:
    """An equation of one operand that only moves its axes."""
    equation = "".join(r.node.get_str("equation").split())
    operand, _, result = equation.partition("->")
    if len(r.node.inputs) != 1 or sorted(operand) != sorted(result) or not result.isalpha():
        return "it does more than move axes"
    if len(set(operand)) < len(operand):
        return "it takes a diagonal"
    return r.last("Transpose", r.node.inputs, {"perm": [operand.index(axis) for axis in result]})


def depth_to_space(r: Rewriting) -> str | None:
    """PixelShuffle of a convolution: its filters in the order in which blocks lie together."""
    x, size = r.node.inputs[0], r.node.get_int("blocksize")
    if r.node.get_str("mode", "DCR") != "CRD":
        return None
    conv = made_by(x, "Conv")
    if conv is None or x.only_consumer is not r.node or conv.get_int("group", 1) != 1:
        return "its operand comes from no convolution of its own"
    parameters = [tensor for tensor in conv.inputs[1:] if not tensor.is_absent]
    if not all(tensor.is_constant for tensor in parameters):
        return "filters of its convolution are computed at run time"
    order = np.arange(x.shape[1]).reshape(-1, size**2).T.reshape(-1)

    def ordered(tensor: Tensor) -> Tensor:
        values = tensor.lazy
        return r.graph.deferred_constant(
            f"{tensor.name}.ordered", tensor.shape, tensor.dtype, lambda: values.load()[order]
        )

    inputs = [conv.inputs[0], *map(ordered, parameters)]
    made = r.graph.tensor(f"{x.name}.ordered", x.shape, x.dtype)
    r.graph.add("Conv", inputs, [made], conv.attrs, source=[conv], before=conv)
    r.last("DepthToSpace", [made], {"blocksize": size, "mode": "DCR"})
    r.graph.remove(conv)
    return ""


def slice_of_product(r: Rewriting) -> str | None:
    """Rows or columns of a product of activations of which nothing else is read: the product of
    these rows or columns. Each part has a range of its own then, as the sums that linear attention
    divides by."""
    x, bounds = r.node.inputs[0], r.node.inputs[1:]
    product = made_by(x, "MatMul")
    if product is None or x.is_output or any(tensor.is_constant for tensor in product.inputs):
        return None
    axes = {_cut_axis(each, x) for each in x.consumers}
    taken = sum(prod(each.output.shape) for each in x.consumers)
    (axis,) = axes if len(axes) == 1 else (None,)
    if axis is None or axis < x.rank - 2 or taken > prod(x.shape):
        return None
    operands = list(product.inputs)
    side = axis - (x.rank - 2)
    cut = operands[side]
    if cut.rank != x.rank:
        return None
    shape = (*cut.shape[:axis], r.node.output.shape[axis], *cut.shape[axis + 1 :])
    operands[side] = r.step("Slice", [cut, *bounds], shape)
    made = r.graph.tensor(f"{r.node.output.name}.product", r.node.output.shape, x.dtype)
    r.graph.add("MatMul", operands, [made], source=[product, r.node], before=r.node)
    r.last("Identity", [made])
    if not x.consumers:
        r.graph.remove(product)
    return ""


def _cut_axis(node: Node, x: Tensor) -> int | None:
    """The axis along which alone ``node`` takes a part of ``x``; None for other ops."""
    if not is_op(node, "Slice") or not all(tensor.is_constant for tensor in node.inputs[1:]):
        return None
    axes = node.input(3)
    listed = range(x.rank) if axes is None else axes.values().reshape(-1) % x.rank
    return int(listed[0]) if len(listed) == 1 else None


MOVES: Mapping[str, Rule] = {
    "Gather": gather,
    "Expand": expand,
    "Tile": tile,
    "Pad": pad,
    "Einsum": einsum,
    "DepthToSpace": depth_to_space,
    "Slice": slice_of_product,
}
"""By the type of the ONNX operator."""
