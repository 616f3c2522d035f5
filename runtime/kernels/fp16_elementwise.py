"""FP16 element by element: activations, sums and products, gated units.

UNARY is correctly rounded from the real function (a table of all FP16 values). BINARY computes in
FP32, where sums and products of FP16 values are exact or nearly so, and rounds once. GLU multiplies
the value by the FP32 function of the gate and rounds once. No result depends on its neighbours, so
tiling cannot show.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numba import prange

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.functions import BINARY
from edgefusion.runtime.kernels.contract import Array, Attrs, Operands
from edgefusion.runtime.kernels.fp16_functions import table16, table32
from edgefusion.runtime.kernels.fp16_half import F32, U16, bits, ieee, narrow, put_bits, widen
from edgefusion.runtime.kernels.parallel import use_threads

_CHUNK = 1 << 14


@ieee(threads=True)
def _look_up(x: U16, table: U16, y: U16) -> None:
    for chunk in prange((x.size + _CHUNK - 1) // _CHUNK):
        for i in range(chunk * _CHUNK, min(x.size, (chunk + 1) * _CHUNK)):
            y[i] = table[x[i]]


@ieee(threads=True)
def _gate(value: U16, gate: U16, table: F32, y: U16) -> None:
    for chunk in prange((y.size + _CHUNK - 1) // _CHUNK):
        for i in range(chunk * _CHUNK, min(y.size, (chunk + 1) * _CHUNK)):
            y[i] = narrow(widen(value[i]) * table[gate[i]])


@ieee(threads=True)
def _combine(code: int, a: U16, b: U16, y: U16) -> None:
    """``y`` [m, n] from ``a`` and ``b``, each [m, n] or [1, n], by ``code`` of ``BINARY``."""
    m, n = y.shape
    for i in prange(m):
        left, right, out = a[i % len(a)], b[i % len(b)], y[i]
        if code == 0:
            for j in range(n):
                out[j] = narrow(widen(left[j]) + widen(right[j]))
        elif code == 1:
            for j in range(n):
                out[j] = narrow(widen(left[j]) - widen(right[j]))
        elif code == 2:
            for j in range(n):
                out[j] = narrow(widen(left[j]) * widen(right[j]))
        elif code == 3:
            for j in range(n):
                out[j] = narrow(widen(left[j]) / widen(right[j]))
        elif code == 4:
            for j in range(n):
                p, q = widen(left[j]), widen(right[j])
                out[j] = left[j] if p > q or p != p else right[j]
        else:
            for j in range(n):
                p, q = widen(left[j]), widen(right[j])
                out[j] = left[j] if p < q or p != p else right[j]


def unary(operands: Operands, attrs: Attrs) -> None:
    """y <- function(x), any shape; x and y may be the same memory."""
    (x,), (y,) = operands.inputs, operands.outputs
    use_threads(x.size)
    made = np.empty(x.size, np.uint16)
    _look_up(bits(x).reshape(-1), table16(str(attrs["function"])), made)
    put_bits(y, made.reshape(y.shape))


def binary(operands: Operands, attrs: Attrs) -> None:
    """y <- a, b; operands repeat along axes of stride zero. y may be the memory of either."""
    function = str(attrs["function"])
    if function not in BINARY:
        raise InputError(f"expected one of {', '.join(BINARY)}, found function {function!r}")
    (y,) = operands.outputs
    use_threads(y.size)
    a, b = (_rows(operand, y.shape) for operand in operands.inputs)
    made = np.empty((prod(y.shape[:-1]), y.shape[-1]), np.uint16)
    _combine(BINARY[function].code, a, b, made)
    put_bits(y, made.reshape(y.shape))


def _rows(operand: Array, shape: tuple[int, ...]) -> U16:
    """Bit patterns as [rows, n], or [1, n] for one row that all rows repeat."""
    if operand.shape != shape:
        raise InputError(f"expected an operand of shape {shape}, found {operand.shape}")
    outer = zip(shape[:-1], operand.strides[:-1], strict=True)
    if all(size == 1 or stride == 0 for size, stride in outer):
        operand = operand[(slice(0, 1),) * (len(shape) - 1)]
    return bits(operand).reshape(-1, shape[-1])


def glu(operands: Operands, attrs: Attrs) -> None:
    """y[m,c] <- value[m,c] * function(gate[m,c])."""
    value, gate = (bits(operand).reshape(-1) for operand in operands.inputs)
    (y,) = operands.outputs
    use_threads(y.size)
    made = np.empty(y.size, np.uint16)
    _gate(value, gate, table32(str(attrs["function"])), made)
    put_bits(y, made.reshape(y.shape))
