"""Tables 6 and 7: the breakdown of an attention op, and the comparison with the paper."""

from __future__ import annotations

import pytest

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.cost import dma_ns
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.program import Program
from edgefusion.runtime.simulator import simulate
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.paper.attention_breakdown import (
    ROWS,
    attention_breakdown,
    attention_rows,
    largest_attention,
)
from edgefusion.toolchain.paper.published import table6, table7
from edgefusion.toolchain.paper.tables import Comparison, run_paper, shares
from tests.lowering_cases import attention_case, conv_case

MACHINE = load_target("exynos2400").machine
SELF_ATTENTION = attention_case(4096, 4096, heads=8, depth=40)


def compiled(schedule: str) -> Program:
    return lower(SELF_ATTENTION, MACHINE, schedule_named(schedule)).program


def test_paper_data_is_complete() -> None:
    assert [row.operation for row in table6()] == [*ROWS, "total"]
    without = [row.without_mlt_percent for row in table6()[:-1]]
    assert sum(p for p in without if p is not None) == pytest.approx(100, abs=0.2)
    assert [(row.model, row.mlt) for row in table7()] == [
        ("sdm-v1.5", False),
        ("edgefusion", False),
        ("edgefusion", True),
    ]


@pytest.mark.parametrize("schedule", ["serial", "mlt"])
def test_rows_of_the_breakdown_add_up_to_the_op(schedule: str) -> None:
    program = compiled(schedule)
    rows = attention_rows(program, largest_attention(program))
    assert len(rows) == len(program)
    found = attention_breakdown(program, MACHINE, rows)
    assert sum(found.values()) == simulate(program, MACHINE).total_ps
    spilled = {"dma_store_s_in", "dma_load_s_in", "dma_store_s_out"}
    assert {name for name, ps in found.items() if ps == 0} == (
        set() if schedule == "serial" else spilled
    )


def test_a_row_against_hand_computation() -> None:
    """Storing the scores: 8 heads in tiles of the search's size, no waiting but the hand-over."""
    program = compiled("serial")
    rows = attention_rows(program, 0)
    found = attention_breakdown(program, MACHINE, rows)["dma_store_s_in"]
    stores = [program.instruction(i) for i, row in rows.items() if row == "dma_store_s_in"]
    assert sum(s.inputs[0].elements for s in stores) == 8 * 4096 * 4096
    alone = sum(float(dma_ns(MACHINE, 1, s.inputs[0].elements * 2)) for s in stores)
    assert found / 1000 == pytest.approx(alone + len(stores) * MACHINE.semaphore_ns, rel=1e-6)


def test_table_6_is_within_one_and_a_half_points() -> None:
    """The block alone needs no full-size model: its shape is the paper's."""
    ours = shares(compiled("serial"), compiled("mlt"), MACHINE)
    for row in table6():
        for column, paper in enumerate((row.without_mlt_percent, row.with_mlt_percent)):
            if paper is not None:
                assert ours[row.operation][column] == pytest.approx(paper, abs=1.5), row


def test_a_network_without_attention_is_refused() -> None:
    program = lower(conv_case(), MACHINE, schedule_named("mlt")).program
    with pytest.raises(InputError, match="no attention"):
        largest_attention(program)


def test_errors_are_points_and_percent_of_the_paper() -> None:
    comparison = Comparison(ours=110.0, paper=100.0, use="fitted")
    assert comparison.error_points == 10.0
    assert comparison.error_percent == 10.0


@pytest.mark.full
def test_paper_at_full_size() -> None:
    result = run_paper(MACHINE, with_sdm=False)
    plain, tiled = (row for row in result.table7 if row.model == "edgefusion")
    assert abs(plain.unet.error_percent) < 1
    assert abs(tiled.unet.error_percent) < 5
    assert abs(plain.decoder.error_percent) < 5
    assert abs(tiled.decoder.error_percent) < 5
