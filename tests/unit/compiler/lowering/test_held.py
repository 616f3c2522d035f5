"""Tensors that stay in SRAM: which rows are where, and whom their readers wait for."""

from __future__ import annotations

import pytest

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.held import BANDS, Resident, Rolling, part
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.schedule.dependences import Region, dependence_graph
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.isa import DType, Opcode, Space
from edgefusion.runtime.program import Operand, dense_strides
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.target import load_target

MACHINE = load_target("exynos2400").machine.with_values(sram_bytes=4096, sram_align_bytes=16)
ROW_BYTES = 16
SHAPE = (6, 2, 8)
"""An image of 6 lines of 2 pixels, 8 channels: 12 rows."""


def emitter() -> Emitter:
    schedule = schedule_named("pipelined")
    e = Emitter(ProgramBuilder("test", MACHINE.name, schedule.name), MACHINE, schedule, dry=False)
    e.begin_group()
    e.turn_to(0, "op", schedule.slots)
    return e


def in_dram(*shape: int) -> View:
    strides = dense_strides(shape, DType.INT16)
    return View(Operand(3, Space.DRAM, 512, DType.INT16, shape, strides), Region(partial=True))


def rolling(e: Emitter, slots: int = 2) -> Rolling:
    return Rolling.reserve(e, "t", in_dram(*SHAPE), 6, ROW_BYTES, slots)


def test_stripes_take_turns_and_copy_what_is_still_needed() -> None:
    e = emitter()
    t = rolling(e)
    t.advance(0, 0)
    first = part(t.view(t.prototype), 2, 4)
    assert first.operand.address == t.addresses[0] + 2 * ROW_BYTES
    t.advance(2, 4)  # rows 2 and 3 stay, new ones begin at 4
    assert part(t.view(t.prototype), 2, 4).operand.address == t.addresses[1]
    assert part(t.view(t.prototype), 4, 6).operand.address == t.addresses[1] + 2 * ROW_BYTES
    (copy,) = e.builder.build().instructions()
    assert copy.opcode is Opcode.COPY
    assert copy.inputs[0].address == first.operand.address
    assert copy.outputs[0].address == t.addresses[1]
    assert copy.inputs[0].shape == copy.outputs[0].shape == (2, 8)
    t.advance(6, 6)  # nothing stays
    assert len(e.builder.build()) == 1
    assert part(t.view(t.prototype), 6, 7).operand.address == t.addresses[0]


def test_in_one_slot_rows_move_over_those_that_nobody_needs() -> None:
    e = emitter()
    t = rolling(e, slots=1)
    t.advance(0, 0)
    t.advance(0, 3)  # still needed from the first on: nothing moves
    assert len(e.builder.build()) == 0
    assert part(t.view(t.prototype), 3, 4).operand.address == t.addresses[0] + 3 * ROW_BYTES
    t.advance(1, 4)  # rows 1 to 3 move by one, over themselves
    (copy,) = e.builder.build().instructions()
    assert copy.opcode is Opcode.COPY
    assert copy.inputs[0].address == t.addresses[0] + ROW_BYTES
    assert copy.outputs[0].address == t.addresses[0]
    assert copy.outputs[0].shape == (3, 8)


def test_a_stripe_in_one_slot_waits_for_the_readers_of_the_one_before() -> None:
    e = emitter()
    t = rolling(e, slots=1)
    t.advance(0, 0)

    def tile() -> View:
        return View(Operand(4, Space.SRAM, 0, DType.INT16, (1, 8), (16, 2)), Region())

    def rows(first: int) -> View:
        return part(t.view(t.prototype), first, first + 1)

    e.vector(Opcode.COPY, rows(0), [tile()])
    t.advance(0, 1)
    e.vector(Opcode.COPY, tile(), [rows(0)])  # 1: what stays is still what 0 wrote
    e.vector(Opcode.COPY, rows(1), [tile()])
    t.advance(1, 2)  # 3: row 1, which 2 wrote, over row 0, which 1 reads
    before = dependence_graph(e.accesses).before
    assert 0 in before[1]
    assert {1, 2} <= set(before[3])


def test_kept_rows_and_new_ones_are_waited_for_apart() -> None:
    e = emitter()
    t = rolling(e)
    t.advance(0, 0)
    before = t.view(t.prototype).regions()
    t.advance(2, 4)
    kept, fresh = (part(t.view(t.prototype), *ends).regions() for ends in ((2, 4), (4, 6)))
    assert len(kept) == len(fresh) == 1
    assert kept[0] is not fresh[0]
    assert part(t.view(t.prototype), 2, 6).regions() == (*kept, *fresh)
    (access,) = e.accesses
    assert set(map(id, access.reads)) <= set(map(id, before))
    assert list(map(id, access.writes)) == list(map(id, kept))


def test_a_slot_that_comes_round_again_waits_for_its_last_turn() -> None:
    e = emitter()
    t = rolling(e)
    turns = []
    for first in (0, 4, 8):
        t.advance(first, first)
        turns.append(part(t.view(t.prototype), first, first + 1).regions()[0])
    assert turns[0] in turns[2].reuses
    assert turns[1] not in turns[2].reuses
    # Both turns are among what lay in the slot.
    assert turns[0] in t.every[0]
    assert turns[2] in t.every[0]
    # What is placed there next waits for the turn that was last.
    assert turns[2] in e.before(t.addresses[0], t.addresses[0] + 1)


def test_a_tensor_may_be_read_under_another_shape_while_it_rolls() -> None:
    e = emitter()
    t = rolling(e)
    t.advance(4, 4)
    tokens = t.view(in_dram(12, 8))
    lines = t.view(in_dram(*SHAPE))
    assert tokens.shape == (12, 8)
    assert tokens.operand.tensor == lines.operand.tensor == 3
    assert part(tokens, 5, 6).operand.address == part(lines, 5, 6).operand.address


def test_stripes_beyond_sram_do_not_fit() -> None:
    with pytest.raises(DoesNotFitError):
        Rolling.reserve(emitter(), "t", in_dram(*SHAPE), 129, ROW_BYTES, 2)


def test_readers_of_a_band_of_a_resident_wait_for_that_band() -> None:
    e = emitter()
    rows = 64
    held = Resident.reserve(e, "t", 3, 0, rows, ROW_BYTES, (rows, ROW_BYTES))
    view = held.view(in_dram(rows, 8))
    bands = [part(view, at, at + rows // BANDS).regions() for at in range(0, rows, rows // BANDS)]
    assert all(len(band) == 1 for band in bands)
    assert len({id(region) for band in bands for region in band}) == BANDS
    assert len(part(view, 7, 9).regions()) == 2
    assert len(view.regions()) == BANDS
    assert view.operand.address == 0
    (record,) = e.reservations
    assert record.nbytes == rows * ROW_BYTES


def test_a_resident_written_by_columns_is_cut_by_columns_too() -> None:
    held = Resident.reserve(emitter(), "t", 3, 0, 64, ROW_BYTES, (32, 4))
    view = held.view(in_dram(64, 8))
    assert len(view.box((0, 0), (1, 2)).regions()) == 1
    assert len(view.box((0, 0), (1, 8)).regions()) == 4
    assert len(view.box((0, 2), (64, 2)).regions()) == 2
