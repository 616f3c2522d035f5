"""Simulated memory: what counts as a value, and what no longer does."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import DType, Space
from edgefusion.runtime.program import Operand
from edgefusion.runtime.simulated_memory import POISON, SimulatedMemory


def operand(
    address: int,
    *shape: int,
    strides: tuple[int, ...] = (),
    tensor: int = 0,
    space: Space = Space.SRAM,
) -> Operand:
    dense = np.empty(shape, np.float16).strides
    return Operand(tensor, space, address, DType.FP16, shape, strides or dense)


@pytest.fixture
def memory() -> SimulatedMemory:
    return SimulatedMemory(256, 256)


def written(memory: SimulatedMemory, *operands: Operand) -> None:
    for o in operands:
        memory.mark_written(memory.place(o))


def read(memory: SimulatedMemory, o: Operand) -> None:
    memory.expect_written(memory.place(o))


def test_places_share_memory(memory: SimulatedMemory) -> None:
    memory.place(operand(8, 3)).values[...] = [1.0, 2.0, 3.0]
    strided = memory.place(operand(8, 2, strides=(4,))).values
    assert strided.tolist() == [1.0, 3.0]
    assert memory.place(operand(8)).values == 1.0


def test_unwritten_memory_is_poisoned_and_refused(memory: SimulatedMemory) -> None:
    assert memory.place(operand(0, 1)).values.view(np.uint8).tolist() == [POISON, POISON]
    with pytest.raises(InputError, match=r"SRAM \[0x0, 0x8\).*found 8 of 8 bytes unwritten"):
        read(memory, operand(0, 4))
    written(memory, operand(0, 2))
    with pytest.raises(InputError, match="found 4 of 8"):
        read(memory, operand(0, 4))
    written(memory, operand(4, 2))
    read(memory, operand(0, 4))


def test_strided_writes_leave_gaps(memory: SimulatedMemory) -> None:
    columns = operand(0, 4, 2, strides=(8, 2))
    written(memory, columns)
    read(memory, columns)
    read(memory, operand(0, 2, 4, strides=(2, 8)))  # transposed
    read(memory, operand(0, 9, 2, strides=(0, 2)))  # repeated
    with pytest.raises(InputError, match="found 12 of 28"):
        read(memory, operand(0, 14))


def test_a_new_buffer_forgets(memory: SimulatedMemory) -> None:
    written(memory, operand(0, 8))
    memory.poison(Space.SRAM, 4, 4)
    read(memory, operand(0, 2))
    with pytest.raises(InputError, match="found 4 of 16"):
        read(memory, operand(0, 8))


def test_sram_holds_values_of_one_tensor_dram_of_views(memory: SimulatedMemory) -> None:
    written(memory, operand(0, 4, tensor=1), operand(0, 4, tensor=1, space=Space.DRAM))
    read(memory, operand(0, 4, tensor=2, space=Space.DRAM))
    with pytest.raises(InputError, match="of another tensor"):
        read(memory, operand(0, 4, tensor=2))


def test_what_was_read_and_then_overwritten_in_part_is_outdated(memory: SimulatedMemory) -> None:
    tile = operand(0, 8)
    written(memory, tile)
    read(memory, tile)
    written(memory, operand(0, 4))
    read(memory, operand(0, 4))
    with pytest.raises(InputError, match="outdated"):
        read(memory, tile)
    written(memory, operand(0, 4), operand(8, 4))
    read(memory, tile)


def test_what_was_overwritten_whole_or_written_piece_by_piece_is_not(
    memory: SimulatedMemory,
) -> None:
    tile = operand(0, 8)
    for _ in range(2):
        written(memory, operand(0, 4), operand(8, 4))
        read(memory, tile)
        written(memory, tile)
        read(memory, tile)


def test_what_is_computed_in_place_leaves_the_rest_as_it_is(memory: SimulatedMemory) -> None:
    tile = operand(0, 8, tensor=1)
    written(memory, tile)
    read(memory, tile)
    for start in (0, 8):
        part = memory.place(operand(start, 4, tensor=1))
        memory.expect_written(part)
        memory.mark_written(memory.place(operand(start, 2, 2, tensor=2)), [part])
    read(memory, operand(0, 8, tensor=2))
    with pytest.raises(InputError, match="of another tensor"):
        read(memory, tile)


def test_what_reads_other_bytes_does_not_compute_in_place(memory: SimulatedMemory) -> None:
    tile = operand(0, 8)
    written(memory, tile)
    read(memory, tile)
    memory.mark_written(memory.place(operand(0, 4)), [memory.place(operand(8, 4))])
    with pytest.raises(InputError, match="outdated"):
        read(memory, tile)


def test_columns_that_are_new_outlive_those_beside_them_that_are_not(
    memory: SimulatedMemory,
) -> None:
    """Two rows of six columns, read in halves, written anew in thirds: the second third makes what
    is left of both halves worthless, not the first third."""

    def columns(first: int, count: int) -> Operand:
        return operand(2 * first, 2, count, strides=(12, 2))

    written(memory, columns(0, 6))
    read(memory, columns(0, 3))
    read(memory, columns(3, 3))
    written(memory, columns(0, 2))
    with pytest.raises(InputError, match="outdated"):
        read(memory, columns(2, 1))
    written(memory, columns(2, 2))
    read(memory, columns(0, 4))
    with pytest.raises(InputError, match="outdated"):
        read(memory, columns(4, 2))
    written(memory, columns(4, 2))
    read(memory, columns(0, 6))


def test_the_host_writes_to_dram(memory: SimulatedMemory) -> None:
    memory.write(16, np.arange(4, dtype=np.float16))
    there = operand(16, 4, space=Space.DRAM)
    read(memory, there)
    assert memory.place(there).values.tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("checked", [True, False])
def test_no_access_leaves_the_memory(checked: bool) -> None:
    memory = SimulatedMemory(64, 64, checked=checked)
    memory.place(operand(56, 4))
    for outside in (operand(-2, 1), operand(58, 4), operand(0, 2, strides=(64,))):
        with pytest.raises(InputError, match="within the 64 bytes of SRAM"):
            memory.place(outside)


def test_unchecked_memory_remembers_nothing() -> None:
    memory = SimulatedMemory(64, 64, checked=False)
    read(memory, operand(0, 4))
    memory.poison(Space.SRAM, 0, 64)
    assert not memory.place(operand(0, 4)).values.any()


def test_columns_that_were_read_leave_those_beside_them_alone_when_they_go(
    memory: SimulatedMemory,
) -> None:
    """Scores in parts: of the next, shorter tile both parts are there, and no more."""
    left, right = (operand(at, 6, 2, strides=(8, 2)) for at in (0, 4))
    written(memory, left, right)
    read(memory, left)
    read(memory, right)
    shorter = [operand(at, 3, 2, strides=(8, 2)) for at in (0, 4)]
    written(memory, *shorter)
    for half in shorter:
        read(memory, half)
    for half in (left, right):
        with pytest.raises(InputError, match="found 12 of 24"):
            read(memory, half)
