"""What groups take with DMA ahead as far as SRAM has room, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from edgefusion.benchmarks.loading_ahead import ahead_ps
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.latency import ComponentLatency, GroupLatency, OpLatency
from edgefusion.runtime.target import load_target

MACHINE = load_target("exynos2400").machine.with_values(
    sram_bytes=3, dma_bandwidth_bytes_per_s=1e12
)
"""SRAM is filled in 3 ps."""


def component(work: Sequence[tuple[int, int]], groups: Sequence[int]) -> ComponentLatency:
    """Ops of these groups that keep DMA and the tensor engine busy for so many picoseconds."""
    op = OpLatency("", "conv", (), "", "", 1, 0, 0, {}, 0, 0, 0, 0)
    ops = tuple(
        replace(op, name=str(at), busy_ps={EngineKind.DMA: dma, EngineKind.TENSOR: tensor})
        for at, (dma, tensor) in enumerate(work)
    )
    made = tuple(
        GroupLatency(
            group,
            tuple(o.name for o, g in zip(ops, groups, strict=True) if g == group),
            0,
            1,
            0,
            0,
            0,
            0,
            0,
        )
        for group in sorted(set(groups))
    )
    return ComponentLatency(
        "c", "exynos2400", "pipelined", len(ops), 0, 0, 0, 0, {}, (), 0, 0, 0, ops, made
    )


@pytest.mark.parametrize(
    ("work", "groups", "expected"),
    [
        # One group: nothing was there before it.
        ([(10, 4)], [0], 10),
        # A group that computes hides three picoseconds of the next one's loads and no more.
        ([(0, 20), (10, 1)], [0, 1], 20 + 10 - 3),
        # A little work: all of the loads fit before it, and what counts is the computing.
        ([(0, 20), (3, 1)], [0, 1], 21),
        # Loads in a row are no more ahead than one filling of SRAM in all.
        ([(0, 20), (10, 1), (10, 1)], [0, 1, 2], 20 + 20 - 3),
        # The same in one group: engines overlap.
        ([(0, 20), (10, 1)], [0, 0], 21),
    ],
)
def test_a_filling_of_sram_may_be_there_before(
    work: list[tuple[int, int]], groups: list[int], expected: int
) -> None:
    assert ahead_ps(component(work, groups), MACHINE) == expected


def test_engines_of_a_kind_share_the_work() -> None:
    two = MACHINE.with_values(tensor_engines=2)
    assert ahead_ps(component([(1, 20)], [0]), two) == 10
