"""The legality rules: functions ``(ok, reason)`` whose docstrings are what users read.

The graph is expected as passes leave it: channels last, fused, weights constant (or a
DequantizeLinear or Cast of a constant). ``legality`` says which rules an op must obey.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from edgefusion.compiler.frontend.nearest import nearest_factor
from edgefusion.compiler.graph.elementwise import settings_text, unary_function
from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Node, Tensor
from edgefusion.runtime.functions import UNARY_BY_OP, UNARY_BY_TOKEN
from edgefusion.runtime.isa import MAX_RANK

Verdict = tuple[bool, str]
Rule = Callable[[Node], Verdict]

OK: Verdict = (True, "")

VIEWS = ("Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity", "Dropout", "Cast")
"""Ops whose result is their operand's memory, where the NPU runs them."""


def stored_constant(tensor: Tensor) -> Tensor | None:
    """The constant that ``tensor`` shows, behind DequantizeLinear or Cast; None for activations,
    and for outputs of the graph, which somebody has to make."""
    if tensor.is_constant:
        return tensor
    maker = tensor.producer if not tensor.is_output else None
    if maker is None or maker.domain or maker.op not in ("Cast", "DequantizeLinear"):
        return None
    stored = maker.inputs[0]
    shown = maker.op == "Cast" or _is_channelwise(maker)
    return stored if stored.is_constant and shown else None


def _is_channelwise(dequantize: Node) -> bool:
    """Whether INT8 values are multiples of one scale a channel, as ``quantize-w8a16`` leaves them;
    a zero point or blocks of an axis would be more than the NPU multiplies by."""
    values, scale, *zero_point = dequantize.inputs
    return values.dtype == np.int8 and scale.rank == 1 and not zero_point


def folded_shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape without leading ones beyond the NPU's rank."""
    shape = tensor.shape
    while len(shape) > MAX_RANK and shape[0] == 1:
        shape = shape[1:]
    return shape


def _activations(node: Node) -> list[Tensor]:
    return [t for t in node.inputs if not t.is_absent and stored_constant(t) is None]


def float_values(node: Node) -> Verdict:
    """Activations are floating point in the source graph (indices and masks stay on the host)."""
    for tensor in (*_activations(node), *node.outputs):
        if not tensor.is_absent and not np.issubdtype(tensor.dtype, np.floating):
            return False, f"'{tensor.name}' holds {tensor.dtype} values; the NPU computes on floats"
    return OK


def rank_four(node: Node) -> Verdict:
    """At most four axes, not counting leading axes of size 1."""
    for tensor in (*_activations(node), *node.outputs):
        if not tensor.is_absent and len(folded_shape(tensor)) > MAX_RANK:
            return False, f"'{tensor.name}' has shape {list(tensor.shape)}, more than four axes"
    return OK


def some_elements(node: Node) -> Verdict:
    """No tensor is empty."""
    for tensor in (*_activations(node), *node.outputs):
        if not tensor.is_absent and 0 in tensor.shape:
            return False, f"'{tensor.name}' has shape {list(tensor.shape)}, one of whose sizes is 0"
    return OK


def some_activation(node: Node) -> Verdict:
    """At least one operand is an activation."""
    return OK if _activations(node) else (False, "it computes on constants only")


def memory_of_its_own(node: Node) -> Verdict:
    """An output of the graph is no view of a graph input: the host copies that."""
    if not node.output.is_output:
        return OK
    root = node.inputs[0]
    while (maker := root.producer) is not None and maker.op in VIEWS and not maker.domain:
        root = maker.inputs[0]
    if root.producer is not None and stored_constant(root) is None:
        return OK
    what = "a constant" if stored_constant(root) is not None else "an input of the graph"
    return False, f"the output '{node.output.name}' shows '{root.name}', {what}, which is copied"


def batch_one(node: Node) -> Verdict:
    """The batch size is 1."""
    batch = node.inputs[0].shape[0]
    return (True, "") if batch == 1 else (False, f"the batch size is {batch}, the NPU runs one")


def constant_weights(node: Node) -> Verdict:
    """Weights and bias are known at compile time."""
    biased = "bias" in kind_and_tokens(node.op)[1]
    for tensor in node.inputs[1 : 3 if biased else 2]:
        if stored_constant(tensor) is None:
            return False, f"its weights '{tensor.name}' are computed at run time"
    return OK


def constant_parameters(node: Node) -> Verdict:
    """Scale and shift of a normalisation are known at compile time."""
    for tensor in node.inputs[1:3]:
        if not tensor.is_absent and stored_constant(tensor) is None:
            return False, f"its parameter '{tensor.name}' is computed at run time"
    return OK


def channel_parameters(node: Node) -> Verdict:
    """They hold one value for each element of the last axis."""
    channels = node.inputs[0].shape[-1]
    for tensor in node.inputs[1:3]:
        if not tensor.is_absent and (prod(tensor.shape), *tensor.shape[-1:]) != (channels,) * 2:
            return False, (
                f"its parameter '{tensor.name}' {list(tensor.shape)} is not one value for each of "
                f"{channels} channels"
            )
    return OK


def single_precision(node: Node) -> Verdict:
    """The normalisation is asked for in single precision (stash_type 1)."""
    stash = node.get_int("stash_type", 1)
    return OK if stash == 1 else (False, f"its stash_type is {stash}, expected 1")


def one_result(node: Node) -> Verdict:
    """Only the first result is wanted."""
    for tensor in node.outputs[1:]:
        if not tensor.is_absent and (tensor.consumers or tensor.is_output):
            return False, f"its further result '{tensor.name}' is wanted, the NPU makes one"
    return OK


def spatial_axes(node: Node) -> Verdict:
    """Convolutions and pools work over height and width, or over one axis, which is the width."""
    rank = node.inputs[0].rank
    ok = rank in (3, 4)
    return OK if ok else (False, f"it works over {rank - 2} spatial axes, the NPU over one or two")


def channels_last_only(node: Node) -> Verdict:
    """Only after conversion to channels last, which the compiler does where the rules allow it."""
    ok, reason = spatial_axes(node)
    return (False, reason) if not ok else (False, "it could not be converted to channels last")


def pads_inside_kernel(node: Node) -> Verdict:
    """Padding is not negative and less than the reach of the kernel."""
    pads = node.get_ints("pads")
    if "kernel" in node.attrs:
        reach = node.get_ints("kernel")
    else:
        dilations = node.get_ints("dilations", (1, 1))
        sizes = node.inputs[1].shape[2:]
        reach = tuple((k - 1) * d + 1 for k, d in zip(sizes, dilations, strict=True))
    ok = all(0 <= pad < reach[i % 2] for i, pad in enumerate(pads))
    return OK if ok else (False, f"padding {list(pads)} exceeds its kernel's reach {list(reach)}")


def every_result_meets_taps(node: Node) -> Verdict:
    """The kernel is at least as long as the stride, and the result ends where an input's taps do
    (output_padding is at most the padding after it)."""
    strides, kernel = node.get_ints("strides"), node.inputs[1].shape[2:]
    if any(size < stride for size, stride in zip(kernel, strides, strict=True)):
        return False, f"its kernel {list(kernel)} is shorter than its stride {list(strides)}"
    added, after = node.get_ints("output_padding"), node.get_ints("pads")[2:]
    if all(a <= b for a, b in zip(added, after, strict=True)):
        return OK
    return False, f"output_padding {list(added)} exceeds the padding after it, {list(after)}"


def whole_groups(node: Node) -> Verdict:
    """The number of groups divides input and output channels."""
    channels = [node.inputs[0].shape[-1]]
    if "group" in node.attrs:
        groups = node.get_int("group")
        channels.append(node.inputs[1].shape[0])
    else:
        groups = node.get_int("num_groups")
    ok = all(count % groups == 0 for count in channels)
    return OK if ok else (False, f"{groups} groups do not divide {channels} channels")


def epilogue_operands(node: Node) -> Verdict:
    """Epilogue operands have the result's shape, or one value a channel."""
    shape = node.output.shape
    kind, tokens = kind_and_tokens(node.op)
    first = 2 if kind in ("ConvLast", "ConvTransposeLast", "MatMul") else len(node.inputs)
    for tensor in node.inputs[first:]:
        if tensor.shape != shape and prod(tensor.shape) != shape[-1]:
            return False, f"operand '{tensor.name}' {list(tensor.shape)} does not fit {list(shape)}"
    known = ("up2", "bias", "add", "stats", *UNARY_BY_TOKEN)
    unknown = [token for token in tokens if token not in known]
    return OK if not unknown else (False, f"its epilogue has {', '.join(unknown)}")


def matrix_or_batched(node: Node) -> Verdict:
    """x[..., k] with constant w[k, n], or matrices with the same leading axes."""
    a, b = node.inputs[:2]
    if stored_constant(a) is not None:
        return False, "its left operand is a constant; the NPU keeps weights on the right"
    if b.rank == 2 and stored_constant(b) is not None:
        return OK
    if a.rank >= 2 and a.shape[:-2] == b.shape[:-2] and a.rank == b.rank:
        return OK
    return False, f"operands {list(a.shape)} and {list(b.shape)} need broadcasting"


def attention_mask(node: Node) -> Verdict:
    """An attention mask has the axes [1 or heads, lq or 1, lk]."""
    if len(node.inputs) < 4:
        return OK
    heads = node.get_int("num_heads")
    q, k, _, mask = node.inputs[:4]
    if not mask.rank:
        return False, "its mask is one number"
    rows, columns = (mask.shape[-2] if mask.rank > 1 else 1), mask.shape[-1]
    lead = prod(mask.shape[:-2])
    fits = columns == k.shape[-2] and rows in (1, q.shape[-2]) and lead in (1, heads)
    return OK if fits else (False, f"its mask has the unsupported shape {list(mask.shape)}")


def last_axis(node: Node) -> Verdict:
    """Softmax and LayerNorm work along the last axis."""
    axis, rank = node.get_int("axis", -1), node.inputs[0].rank
    ok = rank > 0 and axis % rank == rank - 1
    return OK if ok else (False, f"it works along axis {axis} of {rank}, the NPU along the last")


def rows_or_elements(node: Node) -> Verdict:
    """Operands have the result's shape, or repeat whole rows, columns or one element."""
    shape = node.output.shape
    leading, columns = prod(shape[:-1]), shape[-1] if shape else 1
    for tensor in node.inputs:
        own = tensor.shape[-1] if tensor.shape else 1
        if own not in (1, columns) or prod(tensor.shape[:-1]) not in (1, leading):
            return False, f"operand {list(tensor.shape)} repeats along inner axes of {list(shape)}"
    return OK


def two_operands(node: Node) -> Verdict:
    """Exactly two operands."""
    count = len(node.inputs)
    return OK if count == 2 else (False, f"it has {count} operands, the NPU takes two")


def finite_constants(node: Node) -> Verdict:
    """No constant among the operands is infinite."""
    for tensor in node.inputs:
        if not tensor.is_absent and tensor.is_constant and not np.isfinite(tensor.values()).all():
            return False, f"its constant '{tensor.name}' holds infinities"
    return OK


def known_slice(node: Node) -> Verdict:
    """Bounds are known at compile time and steps are positive."""
    parts = [t for t in node.inputs[1:] if not t.is_absent]
    if not all(t.is_constant for t in parts):
        return False, "its bounds are computed at run time"
    steps = node.input(4)
    forward = steps is None or bool((steps.values() > 0).all())
    return OK if forward else (False, "it steps backwards")


def leading_axes_stay(node: Node) -> Verdict:
    """Leading axes of size 1 beyond the fourth are not moved."""
    x = node.inputs[0]
    perm = node.get_ints("perm", tuple(reversed(range(x.rank))))
    dropped = x.rank - len(folded_shape(x))
    ok = perm[:dropped] == tuple(range(dropped))
    return OK if ok else (False, f"it moves leading axes of {list(x.shape)}")


def nearest_repetition(node: Node) -> Verdict:
    """Resize repeats every pixel a whole number of times in both directions (nearest)."""
    if nearest_factor(node) is not None:
        return OK
    mode = node.get_str("mode", "nearest")
    return False, f"mode '{mode}' with these scales and settings is no repetition of pixels"


def spatial_or_last(node: Node) -> Verdict:
    """Reductions over height and width of one image, or over the last axis."""
    axes = reduced_axes(node)
    if axes is None:
        return False, "its axes are computed at run time"
    x = node.inputs[0]
    if axes and axes in ((x.rank - 1,), tuple(range(1, x.rank - 1))) and x.rank > 1:
        return OK if axes == (x.rank - 1,) or x.shape[0] == 1 else batch_one(node)
    return False, f"it reduces axes {list(axes)} of {x.rank}"


def inference_only(node: Node) -> Verdict:
    """Dropout is the identity (inference)."""
    training = node.input(2)
    off = training is None or (training.is_constant and not training.values().any())
    return OK if off else (False, "it is in training mode")


def settings_of(op: str) -> tuple[Rule, ...]:
    """The rule for attributes and constants of a unary ``op``; none if it is always a function."""
    choices = [(settings_text(row.operator), row.name) for row in UNARY_BY_OP[op]]
    if not any(settings for settings, _ in choices):
        return ()
    allowed = " or ".join(f"{settings} ({name})" for settings, name in choices)

    def known_settings(node: Node) -> Verdict:
        return OK if unary_function(node) else (False, f"the NPU has {op} only with {allowed}")

    known_settings.__doc__ = f"{op} only with {allowed}."
    return (known_settings,)


def reduced_axes(node: Node) -> tuple[int, ...] | None:
    """The axes of a Reduce op, from the front; None if unknown at compile time. No axes stand for
    all, unless ``noop_with_empty_axes`` says for none."""
    axes, rank = node.input(1), node.inputs[0].rank
    if axes is not None and not axes.is_constant:
        return None
    listed = [] if axes is None else axes.values().reshape(-1).tolist()
    if not listed and not node.get_int("noop_with_empty_axes", 0):
        return tuple(range(rank))
    return tuple(sorted(int(axis) % rank for axis in listed))
