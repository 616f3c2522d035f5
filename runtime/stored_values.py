"""Between real numbers, as people and host functions know them, and what NPU memory stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import DType, Opcode
from edgefusion.runtime.program import Program
from edgefusion.runtime.tensor_numbers import Numbers

Array = npt.NDArray[Any]

MAX_BIAS = 2**46
"""Leaves room in the accumulator for the products (``docs/arithmetic.md``)."""


def to_real(values: Array, numbers: Numbers) -> Array:
    """Stored values as real numbers: INT16 steps and FP16 as FP32, others as is.

    Raises InputError for an INT16 tensor without a scale.
    """
    if values.dtype == np.int16:
        real: Array = (values.astype(np.float64) * numbers.step).astype(np.float32)
        return real
    return values.astype(np.float32) if values.dtype == np.float16 else values.copy()


def from_real(values: Array, dtype: DType, numbers: Numbers) -> Array:
    """Real numbers as stored: INT16 rounded to nearest even steps and saturated.

    What is beyond FP16 becomes infinite. Raises InputError for an INT16 tensor without a scale, and
    for NaN that would become an integer.
    """
    if dtype is not DType.INT16 or values.dtype == np.int16:
        with np.errstate(over="ignore"):
            return values.astype(dtype.numpy, copy=False)
    steps = np.rint(values.astype(np.float64) / numbers.step)
    if np.isnan(steps).any():
        raise InputError("found NaN among the values to quantize")
    stored: Array = np.clip(steps, -32768, 32767).astype(np.int16)
    return stored


def stored_bias(values: Array, scales: npt.NDArray[np.float64]) -> Array:
    """Biases in whole steps of ``scales``, one a channel, rounded to nearest even and clamped.

    Raises InputError where a scale is not positive.
    """
    if (scales <= 0.0).any():
        raise InputError("a scale of weights is zero or negative; compile the model again")
    steps = np.rint(values.astype(np.float64).reshape(-1) / scales)
    stored: Array = np.clip(steps, -MAX_BIAS, MAX_BIAS).astype(np.int64).reshape(values.shape)
    return stored


def bias_scales(
    program: Program, constants: Mapping[str, Array]
) -> dict[int, npt.NDArray[np.float64]]:
    """The step of each integer bias, by tensor: input scale times weight scale, one a channel.

    Raises InputError where an input has no scale yet.
    """
    found: dict[int, npt.NDArray[np.float64]] = {}
    for index in np.flatnonzero(np.isin(program.columns.opcode, (Opcode.CONV2D, Opcode.MATMUL))):
        i = program.instruction(int(index))
        if not dict(i.attrs).get("bias"):
            continue
        x, _, bias, *scale = i.inputs
        if bias.dtype is DType.INT64 and bias.tensor not in found:
            weights = constants[program.tensors[scale[0].tensor].constant].astype(np.float64)
            found[bias.tensor] = program.tensors[x.tensor].numbers.step * weights.reshape(-1)
    return found
