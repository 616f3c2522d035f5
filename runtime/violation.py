"""What the rules of ``runtime.verifier`` are given, and what they yield."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule, the instruction that breaks it (-1: the program as a whole), and how."""

    rule: str
    instruction: int
    message: str


Violations = Iterator[Violation]


@dataclass(frozen=True, slots=True)
class Subject:
    """A program to be checked against a machine; a rule yields about ``limit`` violations."""

    program: Program
    machine: Machine
    limit: int

    def instructions(self, rule: str, wrong: Mask, message: Callable[[int], str]) -> Violations:
        """A violation for each instruction that is ``wrong``; ``message`` is given its index."""
        for index in np.flatnonzero(wrong)[: self.limit].tolist():
            yield Violation(rule, index, message(index))

    def operands(self, rule: str, wrong: Mask, message: Callable[[int], str]) -> Violations:
        """A violation for each operand that is ``wrong``; ``message`` is given its row."""
        begin = self.program.columns.operand_begin
        for row in np.flatnonzero(wrong)[: self.limit].tolist():
            yield Violation(rule, int(np.searchsorted(begin, row, side="right")) - 1, message(row))
