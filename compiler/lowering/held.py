"""Tensors that lie in SRAM beyond one tile: whole ones, and those that roll by in stripes."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.view import Cells, View
from edgefusion.compiler.schedule.dependences import Region
from edgefusion.runtime.isa import Opcode, Space
from edgefusion.runtime.program import Operand, dense_strides

BANDS = 8
"""Into how many bands of rows a whole tensor is cut: who reads one need not wait for the others."""


def _whole(prototype: View, tensor: int, cells: Cells) -> View:
    """``tensor``, or the view ``prototype`` of it, where ``cells`` are. SRAM holds the tensor,
    whatever name it is read by."""
    o = prototype.operand
    strides = dense_strides(o.shape, o.dtype)
    return View(Operand(tensor, Space.SRAM, cells.origin, o.dtype, o.shape, strides), cells)


@dataclass(slots=True)
class Resident:
    """A tensor that stays in SRAM whole, ``rows`` of ``row_bytes``."""

    tensor: int
    cells: Cells

    @classmethod
    def reserve(
        cls,
        e: Emitter,
        name: str,
        tensor: int,
        address: int,
        rows: int,
        row_bytes: int,
        tile: tuple[int, int],
    ) -> Resident:
        """At ``address``, written in tiles of so many rows and bytes of a row."""
        made = cls.apart(tensor, address, rows, row_bytes, tile)
        if not e.dry:
            e.occupy(name, address, rows * row_bytes, list(made.cells.all()))
        return made

    @classmethod
    def apart(
        cls, tensor: int, address: int, rows: int, row_bytes: int, tile: tuple[int, int]
    ) -> Resident:
        """The same, with nothing reserved for it: to see how engines overlap."""
        size, column_bytes = tile
        size = max(size, -(-rows // BANDS)) if size < rows else -(-rows // BANDS)
        cells = Cells.cut(address, row_bytes, range(0, rows, size), column_bytes, ())
        return cls(tensor, cells)

    def view(self, prototype: View) -> View:
        """Itself, or a view of it."""
        return _whole(prototype, self.tensor, self.cells)


@dataclass(slots=True)
class Rolling:
    """Stripes of a tensor, each in the next of a few slots of SRAM.

    A stripe begins with the rows that are still needed of the one before, which are copied: in one
    slot over rows that nobody needs any more.
    """

    e: Emitter
    prototype: View
    row_bytes: int
    addresses: tuple[int, ...]
    current: list[list[Region]] = field(default_factory=list)
    every: list[list[Region]] = field(default_factory=list)
    turn: int = -1
    cells: Cells | None = None

    @classmethod
    def reserve(
        cls, e: Emitter, name: str, prototype: View, capacity_rows: int, row_bytes: int, slots: int
    ) -> Rolling:
        """For stripes of up to ``capacity_rows``. Raises DoesNotFitError."""
        addresses = e.reserve(name, capacity_rows * row_bytes, slots)
        made = cls(e, prototype, row_bytes, addresses)
        for label, address in zip(e.labels(name, slots), addresses, strict=True):
            current = [Region(partial=True)]
            made.current.append(current)
            if not e.dry:
                every = e.occupy(label, address, capacity_rows * row_bytes, current)
                made.every.append(every)
        return made

    def advance(self, first: int, fresh: int) -> None:
        """Begin a stripe at row ``first``, of which those before ``fresh`` are kept."""
        old = self.cells
        before = self.view(self.prototype) if old else None
        self.turn += 1
        slot = self.turn % len(self.addresses)
        origin = self.addresses[slot] - first * self.row_bytes
        # In one slot rows that are still needed from the first on are where they were.
        same = old is not None and len(self.addresses) == 1 and origin == old.origin
        stays = same and first < fresh
        bands = [first, fresh] if first < fresh and not stays else [fresh]
        self.cells = Cells.cut(origin, self.row_bytes, bands, self.row_bytes, self.current[slot])
        if old is not None and stays:
            self.cells.bands[:0], self.cells.grid[:0] = old.bands, old.grid
        if not self.e.dry:
            self.current[slot][:] = self.cells.all()
            self.every[slot].extend(self.cells.all())
        if before is not None and first < fresh and not stays:
            kept = [part(view, first, fresh) for view in (self.view(self.prototype), before)]
            self.e.vector(Opcode.COPY, kept[0], [kept[1]])

    def view(self, prototype: View, tensor: int | None = None) -> View:
        """The tensor, or a view of it, of which the rows of the stripe are there; or another
        ``tensor``, in whose place it will be computed."""
        assert self.cells is not None, "a stripe has begun"
        number = self.prototype.operand.tensor if tensor is None else tensor
        return _whole(prototype, number, self.cells)


def part(view: View, first: int, stop: int) -> View:
    """Rows [first, stop) of a whole tensor, as a matrix."""
    columns = view.shape[-1]
    flat = view.reshape(view.operand.elements // columns, columns)
    return flat.box((first, 0), (stop - first, columns))
