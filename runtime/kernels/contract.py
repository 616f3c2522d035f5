"""What a kernel gets: numpy views of simulated memory, and what the numbers in them stand for.

A kernel writes its outputs in place. Views have the shapes, strides and types of the instruction's
operands, in the order of ``runtime.opcodes``; broadcast operands have strides of zero. Attributes
are complete: those that the instruction leaves out have their defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from edgefusion.runtime.tensor_numbers import Numbers

Array = npt.NDArray[Any]
Attrs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operands:
    """The operands of one instruction."""

    outputs: tuple[Array, ...]
    inputs: tuple[Array, ...]
    output_numbers: tuple[Numbers, ...]
    input_numbers: tuple[Numbers, ...]

    def output_scale(self, index: int) -> float:
        """The real value of one step of an output. Raises InputError where it has none."""
        return self.output_numbers[index].step

    def input_scale(self, index: int) -> float:
        """The real value of one step of an input. Raises InputError where it has none."""
        return self.input_numbers[index].step


Kernel = Callable[[Operands, Attrs], None]
