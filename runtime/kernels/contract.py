"""What a kernel gets: numpy views of simulated memory, and the scales of the tensors in them.

A kernel writes its outputs in place. Views have the shapes, strides and types of the instruction's
operands, in the order of ``isa.Opcode``; broadcast operands have strides of zero. A scale is the
real value of one step of an integer activation; 0.0 where the operand has none (FP16, INT8 weights
with a scale a channel, biases, statistics).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Attrs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operands:
    """The operands of one instruction."""

    outputs: tuple[Array, ...]
    inputs: tuple[Array, ...]
    output_scales: tuple[float, ...]
    input_scales: tuple[float, ...]


Kernel = Callable[[Operands, Attrs], None]
