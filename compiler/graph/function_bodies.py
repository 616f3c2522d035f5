"""The bodies of fused ops, in ONNX's text form; ``graph.functions`` says what each computes.

Each builder writes lines into a ``Body``, refuses tokens that its kind does not take, and returns
the names of the attributes that the function declares.
"""

from __future__ import annotations

from collections.abc import Callable

from edgefusion.compiler.graph.function_body import Body, unary
from edgefusion.runtime.functions import UNARY, UNARY_BY_OP

_CONV_ATTRIBUTES = ("strides", "pads", "dilations", "group")
_CONV = (
    "{y} = Conv<strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations, "
    "group: int = @group>({x}, w%s)"
)
_CONV_TRANSPOSE_ATTRIBUTES = ("strides", "pads", "output_padding")
_TURNED = """
filters = Transpose<perm = [1, 0, 2, 3]>(w)
first = Constant<value_ints = [-1, -1]>()
before = Constant<value_ints = [-2147483648, -2147483648]>()
axes_hw = Constant<value_ints = [2, 3]>()
turned = Slice(filters, first, before, axes_hw, first)
"""
_CONV_TRANSPOSE = (
    "{y} = ConvTranspose<strides: ints = @strides, pads: ints = @pads, "
    "output_padding: ints = @output_padding>({x}, turned%s)"
)
_DOUBLE = (
    "{y}_s = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>()\n"
    '{y} = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", '
    'nearest_mode = "floor">({x}, , {y}_s)'
)
_TO_FIRST = "{y} = Transpose<perm = [0, 3, 1, 2]>({x})"
_TO_LAST = "{y} = Transpose<perm = [0, 2, 3, 1]>({x})"


def _conv(body: Body, kind: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Conv and ConvLast; a leading bias is Conv's own third operand."""
    last = kind == "ConvLast"
    body.read("x", "w")
    body.value = "x"
    if last:
        body.step(_TO_FIRST)
    if tokens[:1] == ("up2",):
        body.step(_DOUBLE)
        tokens = tokens[1:]
    if tokens[:1] == ("bias",):
        body.read("bias")
        body.step(_CONV % ", bias")
        tokens = tokens[1:]
    else:
        body.step(_CONV % "")
    if last:
        body.step(_TO_LAST)
    _epilogue(body, kind, tokens, _SUMS_LAST if last else _SUMS_FIRST)
    return _CONV_ATTRIBUTES


def _conv_transpose(body: Body, kind: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
    """A leading bias is ConvTranspose's own third operand."""
    body.read("x", "w")
    body.value = "x"
    body.lines(_TURNED)
    body.step(_TO_FIRST)
    if tokens[:1] == ("bias",):
        body.read("bias")
        body.step(_CONV_TRANSPOSE % ", bias")
        tokens = tokens[1:]
    else:
        body.step(_CONV_TRANSPOSE % "")
    body.step(_TO_LAST)
    _epilogue(body, kind, tokens, _SUMS_LAST)
    return _CONV_TRANSPOSE_ATTRIBUTES


def _matmul(body: Body, kind: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
    body.read("x", "w")
    body.value = "x"
    body.step("{y} = MatMul({x}, w)")
    if tokens[:1] == ("bias",):
        body.read("bias")
        body.step("{y} = Add({x}, bias)")
        tokens = tokens[1:]
    _epilogue(body, kind, tokens, _SUMS_LAST)
    return ()


# Sums over all but the channels: fold to a matrix first, for the rank is not known here.
_SUMS_LAST = """
rows = Flatten<axis = -1>({x})
squares = Mul(rows, rows)
axis = Constant<value_ints = [0]>()
total = ReduceSum<keepdims = 1>(rows, axis)
total_squares = ReduceSum<keepdims = 1>(squares, axis)
stats = Concat<axis = 0>(total, total_squares)
"""
_SUMS_FIRST = """
to_planes = Constant<value_ints = [0, 0, -1]>()
planes = Reshape({x}, to_planes)
squares = Mul(planes, planes)
axes = Constant<value_ints = [0, 2]>()
one = Constant<value_ints = [1, -1]>()
total = ReduceSum<keepdims = 0>(planes, axes)
total_squares = ReduceSum<keepdims = 0>(squares, axes)
total_row = Reshape(total, one)
total_squares_row = Reshape(total_squares, one)
stats = Concat<axis = 0>(total_row, total_squares_row)
"""


def _epilogue(body: Body, kind: str, tokens: tuple[str, ...], sums: str) -> None:
    adds = 0
    for position, token in enumerate(tokens):
        if token == "add":
            operand = f"add{adds or ''}"
            adds += 1
            body.read(operand)
            body.step(f"{{y}} = Add({{x}}, {operand})")
        elif token == "stats" and position == len(tokens) - 1:
            body.lines(sums.replace("{x}", body.value))
            body.outputs.append("stats")
        else:
            body.step(unary(token, kind))
    body.finish()


_GROUP_COUNTS = """
epsilon_f = Constant<value_float: float = @epsilon>()
eps = CastLike(epsilon_f, x)
groups = Constant<value_int: int = @num_groups>()
one = Constant<value_ints = [1]>()
minus = Constant<value_ints = [-1]>()
zero = Constant<value_ints = [0]>()
g = Unsqueeze(groups, zero)
c = Shape(gamma)
per_group = Div(c, g)
x_shape = Shape(x)
"""
_OWN_MOMENTS = """
mean = ReduceMean<keepdims = 1>(grouped, axes)
centred = Sub(grouped, mean)
centred2 = Mul(centred, centred)
variance = ReduceMean<keepdims = 1>(centred2, axes)
"""
# stats[2,c] = sum and sum of squares of a channel; a group's moments combine its channels.
_GIVEN_MOMENTS = """
size = Size(x)
size1 = Unsqueeze(size, zero)
count = Div(size1, g)
count_f = CastLike(count, x)
two = Constant<value_ints = [2]>()
stats_shape = Concat<axis = 0>(two, g, per_group)
stats_grouped = Reshape(stats, stats_shape)
last_axis = Constant<value_ints = [2]>()
sums = ReduceSum<keepdims = 0>(stats_grouped, last_axis)
moments = Div(sums, count_f)
first, second = Split<axis = 0, num_outputs = 2>(moments)
first2 = Mul(first, first)
raw_variance = Sub(second, first2)
nought = Sub(first, first)
variance_g = Max(raw_variance, nought)
mean = Reshape(first, moment_shape)
variance = Reshape(variance_g, moment_shape)
centred = Sub(grouped, mean)
"""
_GROUPS_FIRST = """
grouped_shape = Concat<axis = 0>(zero, g, minus)
axes = Constant<value_ints = [2]>()
moment_shape = Concat<axis = 0>(one, g, one)
planes_shape = Concat<axis = 0>(zero, c, minus)
affine_shape = Concat<axis = 0>(one, c, one)
"""
_GROUPS_LAST = """
grouped_shape = Concat<axis = 0>(zero, minus, g, per_group)
axes = Constant<value_ints = [1, 3]>()
moment_shape = Concat<axis = 0>(one, one, g, one)
planes_shape = Concat<axis = 0>(zero, minus, c)
affine_shape = Concat<axis = 0>(one, one, c)
"""
_NORMALIZE = """
biased = Add(variance, eps)
deviation = Sqrt(biased)
unit = Div(centred, deviation)
planes = Reshape(unit, planes_shape)
gamma_b = Reshape(gamma, affine_shape)
beta_b = Reshape(beta, affine_shape)
scaled = Mul(planes, gamma_b)
shifted = Add(scaled, beta_b)
normal = Reshape(shifted, x_shape)
"""


def _group_norm(body: Body, kind: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
    given = tokens[-1:] == ("stats",)
    body.read("x", "gamma", "beta")
    if given:
        body.read("stats")
        tokens = tokens[:-1]
    body.lines(_GROUP_COUNTS)
    body.lines(_GROUPS_LAST if kind == "GroupNormLast" else _GROUPS_FIRST)
    body.lines("grouped = Reshape(x, grouped_shape)")
    body.lines(_GIVEN_MOMENTS if given else _OWN_MOMENTS)
    body.lines(_NORMALIZE)
    body.value = "normal"
    for token in tokens:
        body.step(unary(token, kind))
    body.finish()
    return "num_groups", "epsilon"


def _rms_norm(body: Body, kind: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
    if tokens:
        raise ValueError(f"{kind} takes no tokens, got {tokens}")
    body.read("x", "gamma")
    body.lines("""
square = Mul(x, x)
last = Constant<value_ints = [-1]>()
mean = ReduceMean<keepdims = 1>(square, last)
epsilon_f = Constant<value_float: float = @epsilon>()
eps = CastLike(epsilon_f, x)
biased = Add(mean, eps)
root = Sqrt(biased)
unit = Div(x, root)
y = Mul(unit, gamma)
""")
    return ("epsilon",)


def _attention(body: Body, kind: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
    grouped = tokens[:1] == ("grouped",)
    masked = tokens[grouped:] == ("mask",)
    if tokens[grouped:] not in ((), ("mask",)):
        raise ValueError(f"{kind} takes 'grouped', then 'mask', or none, got {tokens}")
    body.read("q", "k", "v", *(["mask"] if masked else []))
    body.lines("""
heads = Constant<value_int: int = @num_heads>()
minus = Constant<value_ints = [-1]>()
keep = Constant<value_ints = [0, 0]>()
zero = Constant<value_ints = [0]>()
h = Unsqueeze(heads, zero)
split = Concat<axis = 0>(keep, h, minus)
merge = Concat<axis = 0>(keep, minus)
q4 = Reshape(q, split)
""")
    body.lines(_GROUPED if grouped else "k4 = Reshape(k, split)\nv4 = Reshape(v, split)\n")
    body.lines("""
qh = Transpose<perm = [0, 2, 1, 3]>(q4)
kh = Transpose<perm = [0, 2, 3, 1]>(k4)
vh = Transpose<perm = [0, 2, 1, 3]>(v4)
scale_f = Constant<value_float: float = @scale>()
scale_c = CastLike(scale_f, q)
q_scaled = Mul(qh, scale_c)
scores = MatMul(q_scaled, kh)
""")
    body.value = "scores"
    if masked:
        body.step("{y} = Add({x}, mask)")
    body.step("{y} = Softmax<axis = -1>({x})")
    body.step("{y} = MatMul({x}, vh)")
    body.step("{y} = Transpose<perm = [0, 2, 1, 3]>({x})")
    body.step("{y} = Reshape({x}, merge)")
    body.finish()
    return ("num_heads", *(["num_key_heads"] if grouped else []), "scale")


_GROUPED = """
key_heads = Constant<value_int: int = @num_key_heads>()
one = Constant<value_ints = [1]>()
hk = Unsqueeze(key_heads, zero)
g = Div(h, hk)
parts = Concat<axis = 0>(keep, hk, one, minus)
times = Concat<axis = 0>(one, one, one, g, one)
k5 = Reshape(k, parts)
v5 = Reshape(v, parts)
kg = Tile(k5, times)
vg = Tile(v5, times)
k4 = Reshape(kg, split)
v4 = Reshape(vg, split)
"""
"""Each head of K and V for as many of Q, one behind the other."""


def _elementwise(body: Body, kind: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
    if tokens:
        raise ValueError(f"{kind} takes no tokens, got {tokens}")
    body.read("x")
    body.value = "x"
    (function,) = UNARY_BY_OP[kind]
    body.step(function.operator.body)
    body.finish()
    return ()


def _glu(body: Body, kind: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
    if kind == "GEGLU":
        tokens = ("gelu", *tokens)
    if len(tokens) != 1:
        raise ValueError(f"GLU takes exactly one function, got {tokens}")
    body.read("x")
    body.lines("value, gate = Split<axis = -1, num_outputs = 2>(x)")
    body.value = "gate"
    body.step(unary(tokens[0], kind))
    body.step("{y} = Mul(value, {x})")
    body.finish()
    return ()


_POOL = {
    "max": "{y} = MaxPool<kernel_shape: ints = @kernel, strides: ints = @strides, "
    "pads: ints = @pads>({x})",
    "average": "{y} = AveragePool<kernel_shape: ints = @kernel, strides: ints = @strides, "
    "pads: ints = @pads, count_include_pad: int = @count_include_pad>({x})",
}


def _pool(body: Body, kind: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
    if len(tokens) != 1 or tokens[0] not in _POOL:
        raise ValueError(f"{kind} takes 'max' or 'average', got {tokens}")
    body.read("x")
    body.value = "x"
    for template in (_TO_FIRST, _POOL[tokens[0]], _TO_LAST):
        body.step(template)
    body.finish()
    return "kernel", "strides", "pads", "count_include_pad"


KINDS: dict[str, Callable[[Body, str, tuple[str, ...]], tuple[str, ...]]] = {
    "Conv": _conv,
    "ConvLast": _conv,
    "ConvTransposeLast": _conv_transpose,
    "MatMul": _matmul,
    "GroupNorm": _group_norm,
    "GroupNormLast": _group_norm,
    "RMSNorm": _rms_norm,
    "Attention": _attention,
    **{f.operator.op_type: _elementwise for f in UNARY.values() if f.operator.definition},
    "GEGLU": _glu,
    "GLU": _glu,
    "PoolLast": _pool,
}
"""Builders by kind."""
