"""Our CONV2D kernel on a case of the outside oracles."""

from __future__ import annotations

import numpy as np

from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Array, Operands
from edgefusion.runtime.kernels.table import KERNELS
from edgefusion.runtime.opcodes import SPECIFICATIONS
from edgefusion.runtime.specification import Family
from edgefusion.runtime.tensor_numbers import PLAIN, steps_of
from tests.differential.conv_cases import ConvCase, operands


def run_kernel(case: ConvCase) -> Array:
    """y [h', w', co] INT16 of ``case``."""
    x, w, bias, scales = operands(case)
    edge = case.kernel - 1
    y = np.empty((case.height - edge, case.width - edge, case.channels_out), np.int16)
    weights = np.ascontiguousarray(w.transpose(0, 3, 1, 2))
    x_numbers, y_numbers = (steps_of(float(np.float32(s))) for s in (case.x_scale, case.y_scale))
    ops = Operands((y,), (x, weights, bias, scales), (y_numbers,), (x_numbers, PLAIN, PLAIN, PLAIN))
    attrs = SPECIFICATIONS[Opcode.CONV2D].complete((("bias", 1),))
    KERNELS[Opcode.CONV2D, Family.INT](ops, attrs)
    return y
