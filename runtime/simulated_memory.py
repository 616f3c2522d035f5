"""SRAM and DRAM as arrays of bytes, with a shadow that knows what each byte holds.

In checked mode these are errors:

- reading a byte that nothing has written since its buffer came to life, or since the run began;
- reading from SRAM as one tensor what was written as another: two buffers overlap, or an address is
  wrong;
- reading what was overwritten in part since it was last read: half of it is a tile of the past.
  Once a range of SRAM has been read, writing a part of it makes the rest worthless, unless the
  instruction computes in place: what it reads of that part becomes its result;
- any access beyond the memory (also unchecked).

The shadow is a byte a byte. Checking costs about as much as moving the data; ``checked=False``
leaves it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import MAX_RANK, Space
from edgefusion.runtime.program import I64, Operand

POISON = 0xA5
"""Unwritten memory: as INT16 -23131, as FP16 -0.022; values that do not go unnoticed."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """An operand resolved against the memories: its elements, and what the shadow needs of it.

    ``axes`` [2, MAX_RANK] are sizes and byte strides, the longest stride first, left-padded with 1
    and 0.
    """

    operand: Operand
    values: npt.NDArray[Any]
    axes: I64


class SimulatedMemory:
    """Both memories of a machine."""

    def __init__(self, sram_bytes: int, dram_bytes: int, *, checked: bool = True) -> None:
        self.checked = checked
        sizes = {Space.SRAM: sram_bytes, Space.DRAM: dram_bytes}
        # Zeros cost nothing until they are touched; DRAM is poisoned as its buffers come to life.
        self._bytes = {space: np.zeros(size, np.uint8) for space, size in sizes.items()}
        self._shadow: dict[Space, Bytes] = {}
        # Parts of SRAM that were read: their axes and the size of an element.
        self._consumed: dict[tuple[int, int, _Comb], tuple[I64, int]] = {}
        if checked:
            self._shadow = {space: np.zeros(size, np.uint8) for space, size in sizes.items()}
            self._bytes[Space.SRAM].fill(POISON)

    def place(self, operand: Operand) -> Place:
        """Resolve ``operand``; InputError if it reaches beyond its memory."""
        data = self._bytes[operand.space]
        if operand.address < 0 or operand.end > len(data):
            raise InputError(
                f"expected an operand within the {len(data)} bytes of {operand.space.name}, found "
                f"bytes {operand.address} to {operand.end}"
            )
        values: npt.NDArray[Any] = np.ndarray(
            operand.shape,
            operand.dtype.numpy,
            data.data,
            offset=operand.address,
            strides=operand.strides,
        )
        axes = np.zeros((2, MAX_RANK), np.int64)
        axes[0] = 1
        # The shadow does not care for the order of elements: transposed runs are runs.
        inwards = sorted(zip(operand.strides, operand.shape, strict=True), reverse=True)
        for axis, (stride, size) in enumerate(inwards, start=MAX_RANK - len(inwards)):
            axes[:, axis] = size, stride
        return Place(operand, values, axes)

    def expect_written(self, place: Place) -> None:
        """Raise InputError if any byte of ``place`` holds no value; note that it was read."""
        if not self.checked or not place.values.size:
            return
        o = place.operand
        tag = _tag(o)
        missing = _missing(self._shadow[o.space], tag, o.address, place.axes, o.dtype.nbytes)
        if missing:
            raise InputError(
                f"expected {o.space.name} [0x{o.address:x}, 0x{o.end:x}) to hold a value that was "
                f"written for this read, found {missing} of {o.elements * o.dtype.nbytes} bytes "
                "unwritten, outdated or of another tensor. Compile the model again; if this stays, "
                "report it as a defect of the compiler"
            )
        if o.space is Space.SRAM:
            self._consumed[o.address, o.end, _comb(place)] = place.axes, o.dtype.nbytes

    def mark_written(self, place: Place, read: Sequence[Place] = ()) -> None:
        """Note that ``place`` holds new values, of an instruction that ``read`` these."""
        if not self.checked or not place.values.size:
            return
        o = place.operand
        if o.space is Space.SRAM:
            if any(_same_bytes(place, other) for other in read):
                self._consumed.pop((o.address, o.end, _comb(place)), None)
            else:
                self._outdate(o.address, o.end, _comb(place))
        _mark(self._shadow[o.space], _tag(o), o.address, place.axes, o.dtype.nbytes)

    def _outdate(self, start: int, end: int, comb: _Comb) -> None:
        """Forget what was read around [start, end) and is now overwritten, in part or whole."""
        for old in [r for r in self._consumed if r[0] < end and start < r[1]]:
            if _interleaved(start, comb, old[0], old[2]):
                continue
            axes, nbytes = self._consumed.pop(old)
            if old[0] < start or end < old[1]:
                # Not what lies between its runs: that may be new.
                _mark(self._shadow[Space.SRAM], 0, old[0], axes, nbytes)

    def poison(self, space: Space, address: int, nbytes: int) -> None:
        """Begin the life of a buffer: whatever was there is no longer a value."""
        if not self.checked:
            return
        self._bytes[space][address : address + nbytes] = POISON
        self._shadow[space][address : address + nbytes] = 0
        if space is Space.SRAM:
            end = address + nbytes
            for old in [r for r in self._consumed if r[0] < end and address < r[1]]:
                del self._consumed[old]

    def write(self, address: int, values: npt.NDArray[Any]) -> None:
        """Put ``values`` densely into DRAM, as the host does."""
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._bytes[Space.DRAM][address : address + len(data)] = data
        if self.checked:
            self._shadow[Space.DRAM][address : address + len(data)] = 1


_Comb = tuple[int, int]
"""Runs of so many bytes, one every so many: columns of a matrix. (0, 0) is no such pattern."""


def _comb(place: Place) -> _Comb:
    """The pattern of an operand, if it is columns of a matrix."""
    axes: list[tuple[int, int]] = []
    for size, stride in place.axes.T.tolist():
        if size == 1:
            continue
        if axes and axes[-1][1] == size * stride:
            axes[-1] = (axes[-1][0] * size, stride)
        else:
            axes.append((size, stride))
    nbytes = place.operand.dtype.nbytes
    if len(axes) != 2 or axes[1][1] != nbytes:
        return (0, 0)
    return axes[1][0] * nbytes, axes[0][1]


def _same_bytes(one: Place, other: Place) -> bool:
    """Whether two operands are the same bytes, if of different tensors and in different shapes."""
    a, b = one.operand, other.operand
    return (
        (a.space, a.address, a.end) == (b.space, b.address, b.end)
        and a.elements * a.dtype.nbytes == b.elements * b.dtype.nbytes
        and _comb(one) == _comb(other)
    )


def _interleaved(start: int, comb: _Comb, other_start: int, other: _Comb) -> bool:
    """Whether two operands are different columns of one matrix, and share no byte."""
    (run, pitch), (other_run, other_pitch) = comb, other
    if not pitch or pitch != other_pitch:
        return False
    offset = (other_start - start) % pitch
    return run <= offset and offset + other_run <= pitch


def _tag(operand: Operand) -> int:
    """What the shadow says of the operand's bytes: 0 is nothing, in DRAM 1 is a value (views share
    bytes), in SRAM a tensor has a number, which few share."""
    return 1 if operand.space is Space.DRAM else 1 + operand.tensor % 255


@compiled
def _run(axes: I64, nbytes: int) -> tuple[int, int]:
    """Innermost axes that lie dense are one run of bytes: how many axes are left, and its size."""
    rank, run = MAX_RANK, nbytes
    while rank > 0 and (axes[0, rank - 1] == 1 or axes[1, rank - 1] == run):
        run *= axes[0, rank - 1]
        rank -= 1
    return rank, run


@compiled
def _begin(axes: I64, rank: int, index: int) -> int:
    """Byte offset of run number ``index``."""
    offset = 0
    for axis in range(rank - 1, -1, -1):
        offset += (index % axes[0, axis]) * axes[1, axis]
        index //= axes[0, axis]
    return offset


@compiled
def _missing(shadow: Bytes, tag: int, address: int, axes: I64, nbytes: int) -> int:
    """How many bytes of an operand lack the tag (repeated ones count once each time)."""
    rank, run = _run(axes, nbytes)
    count = 1
    for axis in range(rank):
        count *= axes[0, axis]
    missing = 0
    expected = np.uint8(tag)
    for index in range(count):
        begin = address + _begin(axes, rank, index)
        tags = shadow[begin : begin + run]
        wrong = False
        for i in range(run):  # compares 32 bytes an instruction, which counting would not
            wrong |= tags[i] != expected
        if wrong:
            for i in range(run):
                missing += tags[i] != expected
    return missing


@compiled
def _mark(shadow: Bytes, tag: int, address: int, axes: I64, nbytes: int) -> None:
    rank, run = _run(axes, nbytes)
    count = 1
    for axis in range(rank):
        count *= axes[0, axis]
    for index in range(count):
        begin = address + _begin(axes, rank, index)
        shadow[begin : begin + run] = tag
