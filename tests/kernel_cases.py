"""Calls of kernels in tests: operands from real values, results back to real values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Array, Operands
from edgefusion.runtime.kernels.table import KERNELS
from edgefusion.runtime.opcodes import SPECIFICATIONS
from edgefusion.runtime.specification import Family
from edgefusion.runtime.tensor_numbers import Numbers, steps_of


def call(
    opcode: Opcode,
    y: Array,
    y_numbers: float | Numbers,
    inputs: Sequence[tuple[Array, float | Numbers]],
    **attrs: Any,
) -> Array:
    """Run the integer kernel of ``opcode`` into ``y``; inputs are (array, scale), or
    (array, numbers) where they have none."""
    arrays, numbers = zip(*inputs, strict=True)
    ops = Operands((y,), arrays, (_numbers(y_numbers),), tuple(map(_numbers, numbers)))
    KERNELS[opcode, Family.INT](ops, SPECIFICATIONS[opcode].complete(tuple(attrs.items())))
    return y


def _numbers(given: float | Numbers) -> Numbers:
    return given if isinstance(given, Numbers) else steps_of(given)


def steps(real: Array, scale: float) -> Array:
    """INT16 of ``real``, clamped."""
    made: Array = np.clip(np.floor(real / scale + 0.5), -32768, 32767).astype(np.int16)
    return made


def lsb_error(y: Array, y_scale: float, real: Array) -> float:
    """Largest distance of ``y`` from ``real`` in steps, ``real`` limited to what INT16 holds."""
    return float(np.abs(y - np.clip(real / y_scale, -32768, 32767)).max())
