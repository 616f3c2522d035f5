"""SRAM and DRAM as arrays of bytes, with a shadow that knows which bytes hold a value.

Reading a byte that nothing has written since its buffer came to life is an error, as is any access
beyond the memory. Checking costs about as much as moving the data; ``checked=False`` leaves it out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import Space
from edgefusion.runtime.program import Operand

POISON = 0xA5
"""Unwritten memory: as INT16 -23131, as FP16 -0.022; values that do not go unnoticed."""

Bytes = npt.NDArray[np.uint8]


class SimulatedMemory:
    """Both memories of a machine."""

    def __init__(self, sram_bytes: int, dram_bytes: int, *, checked: bool = True) -> None:
        self.checked = checked
        self._bytes = {
            Space.SRAM: _poisoned(sram_bytes),
            Space.DRAM: np.empty(dram_bytes, dtype=np.uint8),
        }
        if checked:
            self._bytes[Space.DRAM].fill(POISON)
            self._written = {
                space: np.zeros(len(data), dtype=np.bool_) for space, data in self._bytes.items()
            }

    def view(self, operand: Operand) -> npt.NDArray[Any]:
        """The operand's elements, sharing memory."""
        return _strided(self._bytes[operand.space], operand, operand.dtype.numpy)

    def expect_written(self, operand: Operand, where: str) -> None:
        """Raise InputError, beginning with ``where``, if any byte of ``operand`` is unwritten."""
        if self.checked and not self._shadow(operand).all():
            holes = int(np.count_nonzero(~self._shadow(operand)))
            raise InputError(
                f"{where}: expected {operand.space.name} at 0x{operand.address:x} to be written "
                f"before it is read, found {holes} of {operand.elements} elements unwritten. "
                "Compile the model again; if this stays, report it as a defect of the compiler."
            )

    def mark_written(self, operand: Operand) -> None:
        """Note that ``operand`` holds values."""
        if self.checked:
            self._shadow(operand)[...] = True

    def poison(self, space: Space, address: int, nbytes: int) -> None:
        """Begin the life of a buffer: whatever was there is no longer a value."""
        if self.checked:
            self._bytes[space][address : address + nbytes] = POISON
            self._written[space][address : address + nbytes] = False

    def write(self, address: int, values: npt.NDArray[Any]) -> None:
        """Put ``values`` densely into DRAM, as the host does."""
        data = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
        self._bytes[Space.DRAM][address : address + len(data)] = data
        if self.checked:
            self._written[Space.DRAM][address : address + len(data)] = True

    def _shadow(self, operand: Operand) -> npt.NDArray[np.bool_]:
        """One flag an element: that of its first byte, as elements are written whole."""
        return _strided(self._written[operand.space], operand, np.dtype(np.bool_))


def _poisoned(nbytes: int) -> Bytes:
    return np.full(nbytes, POISON, dtype=np.uint8)


def _strided(memory: npt.NDArray[Any], operand: Operand, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if operand.address < 0 or operand.end > len(memory):
        raise InputError(
            f"expected an operand within the {len(memory)} bytes of {operand.space.name}, found "
            f"bytes {operand.address} to {operand.end}"
        )
    return np.ndarray(
        operand.shape, dtype, memory.data, offset=operand.address, strides=operand.strides
    )
