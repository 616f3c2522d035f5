"""UNARY, GLU and BINARY on integers (docs/arithmetic.md, sections 6 and 7)."""

from __future__ import annotations

from functools import lru_cache
from math import frexp, ldexp

import numpy as np
from numba import prange

from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.functions import BINARY, UNARY
from edgefusion.runtime.kernels.contract import Array, Attrs, Operands
from edgefusion.runtime.kernels.lookup import lookup, tabulated_function
from edgefusion.runtime.kernels.parallel import parallel, use_threads
from edgefusion.runtime.kernels.requantize import (
    activation_multiplier,
    clamp16,
    multipliers,
    ratio,
    requantize,
    requantize_array,
)
from edgefusion.runtime.kernels.softmax import divide_by_row_sums

_LARGEST_RATIO = 2.0**40


def unary(ops: Operands, attrs: Attrs) -> None:
    """y <- f(x): functions with a ceiling are requantizations, all others tables."""
    x, y = ops.inputs[0], ops.outputs[0]
    name = str(attrs["function"])
    x_scale, y_scale = ops.input_scale(0), ops.output_scale(0)
    ceiling = UNARY[name].ceiling if name in UNARY else None
    if ceiling is not None:
        positive = np.maximum(x, 0).astype(np.int64)
        result = requantize_array(positive, activation_multiplier(x_scale, y_scale))
        y[...] = np.minimum(result, int(min(ceiling / y_scale + 0.5, 32767.0)))
    else:
        y[...] = look_up(x, lookup(name, x_scale, y_scale))


def look_up(x: Array, values: Array) -> Array:
    """``values[x + 32768]`` for INT16 ``x`` of any shape."""
    result = np.empty(x.shape, np.int16)
    use_threads(x.size)
    _look_up(np.ascontiguousarray(x).reshape(-1), values, result.reshape(-1))
    return result


@parallel
def _look_up(x: Array, values: Array, y: Array) -> None:
    for i in prange(len(x)):
        y[i] = values[np.int64(x[i]) + 32768]


def glu(ops: Operands, attrs: Attrs) -> None:
    """y[m,c] <- value[m,c] * f(gate[m,c])."""
    value, gate = ops.inputs
    name = str(attrs["function"])
    gate_scale = gate_result_scale(name, ops.input_scale(1))
    gated = look_up(gate, lookup(name, ops.input_scale(1), gate_scale))
    m = multipliers(ratio(ops.input_scale(0), gate_scale, ops.output_scale(0)))
    ops.outputs[0][...] = _product(value, gated, int(m.factors[0]), int(m.shifts[0]))


@lru_cache(maxsize=128)
def gate_result_scale(name: str, gate_scale: float) -> float:
    """The scale of f(gate) inside GLU: the largest |f| over all INT16 gates becomes 32767."""
    gates = np.arange(-32768, 32768, dtype=np.float64) * gate_scale
    return float(np.abs(tabulated_function(name).real(gates)).max()) / 32767


def _product(a: Array, b: Array, factor: int, shift: int) -> Array:
    result = np.empty(a.shape, np.int16)
    use_threads(2 * a.size)
    _multiply_loop(
        np.ascontiguousarray(a).reshape(-1),
        np.ascontiguousarray(b).reshape(-1),
        factor,
        shift,
        result.reshape(-1),
    )
    return result


@parallel
def _multiply_loop(a: Array, b: Array, factor: int, shift: int, y: Array) -> None:
    for i in prange(len(a)):
        y[i] = requantize(np.int64(a[i]) * np.int64(b[i]), factor, shift)


def _quotient(a: Array, b: Array, m: float) -> Array:
    """clamp(a * m / b), half up, INT16; a divisor of 0 counts as 1. Element by element."""
    signed = a.astype(np.int64) * np.where(b < 0, -1, 1)
    magnitude = np.abs(b.astype(np.int64))
    result: Array = divide_by_row_sums(signed.reshape(-1, 1), magnitude.reshape(-1), m)
    return result.reshape(a.shape)


def binary(ops: Operands, attrs: Attrs) -> None:
    """y <- a op b; zero strides repeat elements."""
    a, b = ops.inputs
    y = ops.outputs[0]
    name = str(attrs["function"])
    a_scale, b_scale = ops.input_scale(0), ops.input_scale(1)
    if name == "mul":
        m = multipliers(ratio(a_scale, b_scale, ops.output_scale(0)))
        y[...] = _product(a, b, int(m.factors[0]), int(m.shifts[0]))
        return
    if name == "div":
        y[...] = _quotient(a, b, ratio(a_scale, b_scale) / ops.output_scale(0))
        return
    if name not in BINARY:
        raise UnsupportedOpError(
            f"The vector engine has no integer '{name}'; keep this op in FP16 or on the host."
        )
    factors = common_factors(a_scale, b_scale, ops.output_scale(0))
    result = np.empty(y.shape, np.int16)
    use_threads(2 * y.size)
    width = y.shape[-1] if y.ndim else 1
    _combine_loop(
        np.broadcast_to(a, y.shape).reshape(-1, width),
        np.broadcast_to(b, y.shape).reshape(-1, width),
        BINARY[name].code,
        *factors,
        result.reshape(-1, width),
    )
    y[...] = result


def common_factors(a_scale: float, b_scale: float, y_scale: float) -> tuple[int, int, int]:
    """(a factor, b factor, shift): the larger ratio has 30 bits, both share the shift."""
    ratios = [min(ratio(s, y_scale), _LARGEST_RATIO) for s in (a_scale, b_scale)]
    shift = min(max(30 - frexp(max(ratios))[1], 1), 62)
    a, b = (int(ldexp(m, shift) + 0.5) for m in ratios)
    return a, b, shift


@parallel
def _combine_loop(
    a: Array, b: Array, code: int, a_factor: int, b_factor: int, shift: int, y: Array
) -> None:
    """add, sub, max or min, by the ``code`` of ``functions.BINARY``."""
    rows, width = y.shape
    half = np.int64(1) << (shift - 1)
    for r in prange(rows):
        for c in range(width):
            left, right = np.int64(a[r, c]) * a_factor, np.int64(b[r, c]) * b_factor
            if code == 0:
                value = left + right
            elif code == 1:
                value = left - right
            elif code == 4:
                value = max(left, right)
            else:
                value = min(left, right)
            y[r, c] = clamp16((value + half) >> shift)
