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


def call(
    opcode: Opcode,
    y: Array,
    y_scale: float,
    inputs: Sequence[tuple[Array, float]],
    **attrs: Any,
) -> Array:
    """Run the integer kernel of ``opcode`` into ``y``; inputs are (array, scale)."""
    arrays, scales = zip(*inputs, strict=True)
    ops = Operands((y,), arrays, (y_scale,), scales)
    KERNELS[opcode, Family.INT](ops, SPECIFICATIONS[opcode].complete(tuple(attrs.items())))
    return y


def steps(real: Array, scale: float) -> Array:
    """INT16 of ``real``, clamped."""
    made: Array = np.clip(np.floor(real / scale + 0.5), -32768, 32767).astype(np.int16)
    return made


def lsb_error(y: Array, y_scale: float, real: Array) -> float:
    """Largest distance of ``y`` from ``real`` in steps, ``real`` limited to what INT16 holds."""
    return float(np.abs(y - np.clip(real / y_scale, -32768, 32767)).max())
