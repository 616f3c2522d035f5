"""What lowering rules handle: operands with the memory whose hazards they share."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgefusion.compiler.schedule.dependences import Region
from edgefusion.runtime.isa import Role, Space
from edgefusion.runtime.program import Operand, dense_strides


@dataclass(slots=True, eq=False)
class Cells:
    """Memory of a matrix, cut into regions of their own, so that who reads one tile of it
    need not wait for who writes another.

    Row r begins at ``origin + r * row_bytes``. ``bands`` are the first rows of the cuts, ascending;
    in each, columns are cut every ``column_bytes``. ``grid`` has a region for each cell.
    """

    origin: int
    row_bytes: int
    bands: list[int]
    column_bytes: int
    grid: list[tuple[Region, ...]]

    @classmethod
    def cut(
        cls, origin: int, row_bytes: int, bands: Sequence[int], column_bytes: int, reuses: Regions
    ) -> Cells:
        """New cells over bytes that the regions ``reuses`` had before."""
        across = -(-row_bytes // column_bytes)
        grid = [
            tuple(Region(partial=True, reuses=list(reuses)) for _ in range(across)) for _ in bands
        ]
        return cls(origin, row_bytes, list(bands), column_bytes, grid)

    @classmethod
    def whole(cls, origin: int, row_bytes: int, bands: Sequence[int], column_bytes: int) -> Cells:
        """New cells of a tile that is computed again and again, each cell at once or with others:
        the next writer of one follows the last."""
        across = -(-row_bytes // column_bytes)
        grid = [tuple(Region() for _ in range(across)) for _ in bands]
        return cls(origin, row_bytes, list(bands), column_bytes, grid)

    def all(self) -> tuple[Region, ...]:
        """Every region."""
        return tuple(region for band in self.grid for region in band)

    def touched(self, o: Operand) -> tuple[Region, ...]:
        """The regions of the cells that ``o``, a part of the matrix, lies in."""
        row, column = divmod(o.address - self.origin, self.row_bytes)
        steps = [(n - 1, s) for n, s in zip(o.shape, o.strides, strict=True) if n > 1]
        down = sum(n * s for n, s in steps if s >= self.row_bytes)
        across = column + sum(n * s for n, s in steps if s < self.row_bytes)
        last = row + (down + across) // self.row_bytes
        aside = any(s % self.row_bytes for _, s in steps if s >= self.row_bytes)
        if aside or across >= self.row_bytes:  # it runs on into rows that follow
            column, across = 0, self.row_bytes - 1
        first_band = max(bisect_right(self.bands, row) - 1, 0)
        last_band = max(bisect_right(self.bands, last) - 1, 0)
        cut = slice(column // self.column_bytes, across // self.column_bytes + 1)
        return tuple(r for band in self.grid[first_band : last_band + 1] for r in band[cut])


Regions = Sequence[Region]
Memory = Region | Cells


class View(NamedTuple):
    """An operand together with the memory whose hazards it shares."""

    operand: Operand
    memory: Memory
    role: Role = Role.ACTIVATION

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in elements."""
        return self.operand.shape

    @property
    def in_sram(self) -> bool:
        """Whether engines can work on it as it is."""
        return self.operand.space is Space.SRAM

    def box(self, starts: Sequence[int], sizes: Sequence[int]) -> View:
        """The sub-box of ``sizes`` elements that begins at ``starts``."""
        address, strides = self.operand.address, self.operand.strides
        for start, stride in zip(starts, strides, strict=True):
            address += start * stride
        return self._with(address, tuple(sizes), strides)

    def reshape(self, *shape: int) -> View:
        """The same bytes under another shape. Raises ValueError where strides forbid it."""
        o = self.operand
        if o.strides == dense_strides(o.shape, o.dtype):
            return self._with(o.address, shape, dense_strides(shape, o.dtype))
        return self._with(o.address, shape, folded_strides(o, shape))

    def strided(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> View:
        """The same start under any shape and byte strides (a stride of 0 broadcasts)."""
        return self._with(self.operand.address, shape, strides)

    def as_tensor(self, tensor: int) -> View:
        """The same memory holding tensor ``tensor``: a result overwritten in place."""
        o = self.operand
        operand = Operand(tensor, o.space, o.address, o.dtype, o.shape, o.strides)
        return View(operand, self.memory, self.role)

    def regions(self) -> tuple[Region, ...]:
        """What an instruction that touches the view depends on."""
        if isinstance(self.memory, Region):
            return (self.memory,)
        return self.memory.touched(self.operand)

    def _with(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> View:
        (tensor, space, _, dtype, _, _), memory, role = self
        return View(Operand(tensor, space, address, dtype, shape, strides), memory, role)


def folded_strides(o: Operand, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of strided ``o`` under another shape; ValueError where no strides do."""
    runs: list[tuple[int, int]] = []  # of elements that follow each other evenly: count, stride
    for size, stride in zip(o.shape, o.strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == size * stride:
            runs[-1] = (runs[-1][0] * size, stride)
        else:
            runs.append((size, stride))
    strides = [0] * len(shape)
    count, stride = runs.pop() if runs else (1, o.dtype.nbytes)
    for axis in reversed(range(len(shape))):
        if count == 1 and runs and shape[axis] > 1:
            count, stride = runs.pop()
        strides[axis] = stride
        if count % shape[axis]:
            raise ValueError(f"cannot see {o} as {shape}")
        count //= shape[axis]
        stride *= shape[axis]
    if count > 1 or runs:
        raise ValueError(f"cannot see {o} as {shape}")
    return tuple(strides)


class Overlay(dict[str, View]):
    """Views by name over others, which are not copied."""

    def __init__(self, below: Mapping[str, View]) -> None:
        super().__init__()
        self._below = below

    def __missing__(self, name: str) -> View:
        return self._below[name]
