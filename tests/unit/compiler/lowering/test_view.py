"""Views under other shapes, and the cells that a part of a tensor lies in, by its very bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefusion.compiler.lowering.view import Cells, View, folded_strides
from edgefusion.compiler.schedule.dependences import Region
from edgefusion.runtime.isa import DType, Space
from edgefusion.runtime.program import Operand, dense_strides


def whole(*shape: int, address: int = 0) -> View:
    strides = dense_strides(shape, DType.INT16)
    operand = Operand(0, Space.SRAM, address, DType.INT16, shape, strides)
    return View(operand, Region())


def addresses(o: Operand) -> list[int]:
    """Of the elements, in order."""
    indices = np.ndindex(*o.shape)
    return [o.address + sum(i * s for i, s in zip(at, o.strides, strict=True)) for at in indices]


@st.composite
def boxes(draw: st.DrawFn, *shape: int) -> tuple[list[int], list[int]]:
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    return starts, [draw(st.integers(1, n - a)) for n, a in zip(shape, starts, strict=True)]


@given(boxes(2, 6, 4, 8), st.data())
def test_a_reshaped_part_has_the_same_elements_in_order(
    box: tuple[list[int], list[int]], data: st.DataObject
) -> None:
    part = whole(2, 6, 4, 8, address=64).box(*box)
    count = part.operand.elements
    columns = data.draw(st.sampled_from([n for n in range(1, count + 1) if count % n == 0]))
    rest = count // columns
    lines = data.draw(st.sampled_from([n for n in range(1, rest + 1) if rest % n == 0]))
    try:
        made = part.reshape(lines, rest // lines, columns)
    except ValueError:
        flat = addresses(part.operand)
        grid = np.array(flat).reshape(lines, rest // lines, columns)
        # No strides would have done.
        even = all(
            len({int(d) for d in np.diff(grid, axis=axis).reshape(-1)}) <= 1 for axis in range(3)
        )
        assert not even
        return
    assert addresses(made.operand) == addresses(part.operand)


def test_rows_of_an_image_fold_and_columns_do_not() -> None:
    image = whole(6, 4, 8)
    lines = image.box((1, 0, 0), (3, 4, 8))
    assert lines.reshape(12, 8).operand.strides == (16, 2)
    part = image.box((0, 0, 2), (6, 4, 3))
    assert part.reshape(24, 3).operand.strides == (16, 2)
    assert part.reshape(1, 24, 1, 3).shape == (1, 24, 1, 3)
    with pytest.raises(ValueError, match="cannot see"):
        part.reshape(72)
    with pytest.raises(ValueError, match="cannot see"):
        image.box((0, 0, 0), (6, 3, 8)).reshape(18, 8)
    with pytest.raises(ValueError, match="cannot see"):
        folded_strides(part.operand, (5, 3))


BANDS = st.lists(st.integers(1, 9), max_size=3, unique=True).map(lambda more: [0, *sorted(more)])


@given(
    boxes(2, 5, 6),
    BANDS,
    st.sampled_from([8, 12, 18, 20]),
    st.sampled_from([2, 4, 6, 8, 12]),
    st.integers(0, 2),
)
def test_cells_are_those_that_hold_a_byte_of_the_part(
    box: tuple[list[int], list[int]],
    bands: list[int],
    row_bytes: int,
    column_bytes: int,
    folded: int,
) -> None:
    """Rows of 12 bytes, in a matrix that may have others. A part may touch more cells than it has
    bytes in, never fewer."""
    cells = Cells.cut(100, row_bytes, bands, column_bytes, ())
    operand = whole(2, 5, 6, address=100).operand
    view = View(operand, cells)
    view = view.reshape(10, 6).box(box[0][1:], box[1][1:]) if folded else view.box(*box)
    touched = {id(region) for region in cells.touched(view.operand)}
    wanted = set()
    for first in addresses(view.operand):
        for byte in (first, first + 1):
            row, column = divmod(byte - 100, row_bytes)
            band = max(i for i, start in enumerate(bands) if start <= row)
            wanted.add(id(cells.grid[band][column // column_bytes]))
    assert wanted <= touched
    if folded and row_bytes == 12:  # a rectangle: exactly
        assert wanted == touched


def test_a_part_as_wide_as_several_rows_touches_them_all() -> None:
    cells = Cells.cut(0, 12, [0, 2, 4], 4, ())
    two_lines = whole(3, 24, address=0)  # a matrix of 6 rows of 6, seen as 3 of 24 bytes and more
    o = Operand(0, Space.SRAM, 12, DType.INT16, (1, 12), dense_strides((1, 12), DType.INT16))
    assert set(map(id, cells.touched(o))) == {id(r) for band in cells.grid[:2] for r in band}
    assert len(cells.touched(two_lines.operand)) == 9
