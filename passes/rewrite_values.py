"""Ops that compute values, written with additions, products, limits and norms (``rewriting``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from math import inf

import numpy as np

from edgefusion.compiler.frontend.legality_rules import reduced_axes
from edgefusion.compiler.graph.elementwise import unary_function
from edgefusion.compiler.graph.functions import function_for
from edgefusion.compiler.graph.graph import Tensor
from edgefusion.compiler.graph.weights import Array
from edgefusion.passes.rewriting import LARGEST, Rewriting, Rule
from edgefusion.passes.root_mean_square import unit_rows

MAX_POWER = 4
"""Largest whole exponent that products are written for."""


def _folded(r: Rewriting, op: str, factor: float = 1.0) -> str:
    """x1 op x2 op ..., times ``factor``: two operands at a time."""
    first, *rest = r.node.inputs

    def both(a: Tensor, b: Tensor) -> Tensor:
        return r.step(op, [a, b], np.broadcast_shapes(a.shape, b.shape))

    if factor != 1.0:
        return r.last("Mul", [reduce(both, rest, first), r.number(factor)])
    if not rest:
        return r.last("Identity", [first])
    return r.last(op, [reduce(both, rest[:-1], first), rest[-1]])


def total(r: Rewriting) -> str:
    """Sum of any number of operands."""
    return _folded(r, "Add")


def mean(r: Rewriting) -> str:
    """Mean of any number of operands."""
    return _folded(r, "Add", 1 / len(r.node.inputs))


def extreme(r: Rewriting) -> str | None:
    """Max and Min of other than two operands."""
    if len(r.node.inputs) == 2:
        return None
    return _folded(r, r.node.op)


def negative(r: Rewriting) -> str:
    """-x."""
    return r.last("Mul", [r.node.inputs[0], r.number(-1.0)])


def absolute(r: Rewriting) -> str:
    """max(x, -x)."""
    x = r.node.inputs[0]
    return r.last("Max", [x, r.step("Mul", [x, r.number(-1.0)], x.shape)])


def reciprocal(r: Rewriting) -> str:
    """1 / x."""
    return r.last("Div", [r.number(1.0), r.node.inputs[0]])


def power(r: Rewriting) -> str:
    """x to a small whole power, or its root."""
    x, exponent = r.node.inputs[0], r.node.inputs[1].scalar()
    if exponent is None or r.node.inputs[1].rank > x.rank:
        return "its exponent is not one constant"
    if exponent == -1.0:
        return r.last("Div", [r.number(1.0), x])
    if exponent == 0.5:
        return r.last("Sqrt", [x])
    if exponent not in range(1, MAX_POWER + 1):
        return f"the NPU multiplies for exponents up to {MAX_POWER}, not for {exponent:g}"
    made = x
    for _ in range(int(exponent) - 2):
        made = r.step("Mul", [made, x], x.shape)
    return r.last("Identity", [x]) if exponent == 1.0 else r.last("Mul", [made, x])


def clip(r: Rewriting) -> str | None:
    """min(max(x, low), high), as far as there are limits; relu6 is a function of the NPU."""
    x = r.node.inputs[0]
    if unary_function(r.node) is not None:
        return None
    given = [(op, r.node.input(index)) for index, op in ((1, "Max"), (2, "Min"))]
    limits = [(op, limit) for op, limit in given if limit is not None and not _no_limit(limit)]
    numbers = [limit.scalar() for _, limit in limits]
    if any(value is not None and not abs(value) <= LARGEST for value in numbers):
        return "FP16 does not hold its limits"
    if not limits:
        return r.last("Identity", [x])
    if len(limits) == 1 and limits[0][0] == "Max" and limits[0][1].scalar() == 0.0:
        return r.last("Relu", [x])
    for op, limit in limits[:-1]:
        x = r.step(op, [x, limit], x.shape)
    return r.last(limits[-1][0], [x, limits[-1][1]])


def _no_limit(limit: Tensor) -> bool:
    value = limit.scalar()
    return value is not None and abs(value) in (inf, float(np.finfo(limit.dtype).max))


def leaky_relu(r: Rewriting) -> str:
    """max(x, a x) for slopes a up to 1."""
    x, slope = r.node.inputs[0], r.node.get_float("alpha", 0.01)
    if not 0.0 <= slope <= 1.0:
        return f"its slope {slope:g} is not between 0 and 1"
    return r.last("Max", [x, r.step("Mul", [x, r.number(slope)], x.shape)])


def prelu(r: Rewriting) -> str:
    """max(x, 0) + a min(x, 0), a broadcast to x."""
    x, slope = r.node.inputs
    if np.broadcast_shapes(x.shape, slope.shape) != x.shape:
        return "its slopes do not broadcast to its operand"
    below = r.step("Min", [x, r.number(0.0)], x.shape)
    return r.last("Add", [r.step("Relu", [x], x.shape), r.step("Mul", [below, slope], x.shape)])


def elu(r: Rewriting) -> str:
    """max(x, 0) + a (exp(min(x, 0)) - 1)."""
    x = r.node.inputs[0]
    below = r.step("Exp", [r.step("Min", [x, r.number(0.0)], x.shape)], x.shape)
    below = r.step("Add", [below, r.number(-1.0)], x.shape)
    if (alpha := r.node.get_float("alpha", 1.0)) != 1.0:
        below = r.step("Mul", [below, r.number(alpha)], x.shape)
    return r.last("Add", [r.step("Relu", [x], x.shape), below])


def hard_sigmoid(r: Rewriting) -> str | None:
    """min(max(a x + b, 0), 1) where a is not the NPU's 1/6."""
    x = r.node.inputs[0]
    if unary_function(r.node) is not None:
        return None
    y = r.step("Mul", [x, r.number(r.node.get_float("alpha", 0.2))], x.shape)
    y = r.step("Add", [y, r.number(r.node.get_float("beta", 0.5))], x.shape)
    return r.last("Min", [r.step("Relu", [y], x.shape), r.number(1.0)])


def where(r: Rewriting) -> str:
    """x m + c, where a condition that is known chooses between x and constants: m is 1 where it
    chooses x, c is 0 there."""
    condition, *sides = r.node.inputs
    y = r.node.output
    computed = [side for side in sides if not side.is_constant]
    if not condition.is_constant or len(computed) != 1:
        return "its condition, or what else it chooses, is computed"
    (x,), other = computed, sides[1] if computed[0] is sides[0] else sides[0]
    chosen = condition.values() if x is sides[0] else ~condition.values()
    if chosen.all() and x.shape == y.shape:
        return r.last("Identity", [x])
    kept = r.graph.constant(f"{y.name}.kept", chosen.astype(y.dtype))
    added = np.where(chosen, 0, other.values()).astype(y.dtype)
    if not added.any():
        return r.last("Mul", [x, kept])
    if not (np.abs(added) <= LARGEST).all():
        return "FP16 does not hold what it chooses"
    product = r.step("Mul", [x, kept], np.broadcast_shapes(x.shape, chosen.shape))
    return r.last("Add", [product, r.graph.constant(f"{y.name}.added", added)])


def batch_norm(r: Rewriting) -> str:
    """x s + t with s = gamma / sqrt(variance + epsilon) and t = beta - mean s, one a channel."""
    node = r.node
    if node.get_int("training_mode", 0) or len(node.outputs) > 1:
        return "it is in training mode; export the model in evaluation mode"
    x, *parameters = node.inputs
    if not all(tensor.is_constant for tensor in parameters):
        return "its statistics are not constants"
    gamma, beta, average, variance = (tensor.lazy for tensor in parameters)
    epsilon, dtype = node.get_float("epsilon", 1e-5), node.output.dtype
    shape = (x.shape[1], *(1,) * (x.rank - 2))

    def scale() -> Array:
        deviation = np.sqrt(variance.load().astype(np.float64) + epsilon)
        return np.asarray(gamma.load() / deviation)

    def shift() -> Array:
        return np.asarray(beta.load() - average.load() * scale())

    def constant(what: str, values: Callable[[], Array]) -> Tensor:
        return r.graph.deferred_constant(
            f"{node.name}.{what}", shape, dtype, lambda: values().reshape(shape).astype(dtype)
        )

    scaled = r.step("Mul", [x, constant("scale", scale)], x.shape)
    return r.last("Add", [scaled, constant("shift", shift)])


def instance_norm(r: Rewriting) -> str:
    """A GroupNorm with a group for each channel."""
    x, scale, shift = r.node.inputs
    attrs = {"num_groups": x.shape[1], "epsilon": r.node.get_float("epsilon", 1e-5)}
    return r.last(function_for("GroupNorm"), [x, scale, shift], attrs)


def square_sum(r: Rewriting) -> str:
    """The sum of x x."""
    x, *axes = r.node.inputs
    return r.last("ReduceSum", [r.step("Mul", [x, x], x.shape), *axes], r.node.attrs)


def euclidean_norm(r: Rewriting) -> str:
    """The root of the sum of x x; of rows the sum of x times what its unit vector has there, for
    squares of small values would be lost beside those of large ones."""
    x, *axes = r.node.inputs
    if reduced_axes(r.node) == (x.rank - 1,):
        op, operands, attrs = unit_rows(r.graph, x, r.node.output.name)
        unit = r.step(op, operands, x.shape, attrs)
        product = r.step("Mul", [x, unit], x.shape)
        return r.last("ReduceSum", [product, *axes], r.node.attrs)
    squares = r.step("Mul", [x, x], x.shape)
    summed = r.step("ReduceSum", [squares, *axes], r.node.output.shape, r.node.attrs)
    return r.last("Sqrt", [summed])


def unit_vectors(r: Rewriting) -> str:
    """x over the norm of its rows, 0 where that is 0."""
    x, order = r.node.inputs[0], r.node.get_int("p", 2)
    if r.node.get_int("axis", -1) % x.rank != x.rank - 1:
        return "it is not along the last axis"
    if order == 2:
        return r.last(*unit_rows(r.graph, x, r.node.output.name))
    size = r.step("Max", [x, r.step("Mul", [x, r.number(-1.0)], x.shape)], x.shape)
    total = r.step("ReduceSum", [size, r.numbers([-1])], (*x.shape[:-1], 1), {"keepdims": 1})
    return r.last("Div", [x, r.step("Max", [total, r.number(_LEAST)], total.shape)])


_LEAST = float(np.finfo(np.float16).smallest_subnormal)


VALUES: Mapping[str, Rule] = {
    "Sum": total,
    "Mean": mean,
    "Max": extreme,
    "Min": extreme,
    "Neg": negative,
    "Abs": absolute,
    "Reciprocal": reciprocal,
    "Pow": power,
    "Clip": clip,
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Elu": elu,
    "HardSigmoid": hard_sigmoid,
    "Where": where,
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "ReduceSumSquare": square_sum,
    "ReduceL2": euclidean_norm,
    "LpNormalization": unit_vectors,
}
"""By the type of the ONNX operator."""
