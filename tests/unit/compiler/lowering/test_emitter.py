"""Tile loops: every tile when emitting, representatives with their number when costing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefusion.compiler.lowering.emitter import Emitter, Tile
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.target import load_target

MACHINE = load_target("exynos2400").machine


def emitter(*, dry: bool) -> Emitter:
    schedule = schedule_named("pipelined")
    return Emitter(ProgramBuilder("test", MACHINE.name, schedule.name), MACHINE, schedule, dry)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 3), st.integers(1, 5))
def test_representatives_stand_for_all_tiles(
    total: int, size: int, edges: int, period: int
) -> None:
    """Of each phase between the edges one is visited, with the number of all."""
    every = list(emitter(dry=False).tiles(total, size, edges=edges, period=period, start=7))
    assert [tile.start - 7 for tile in every] == list(range(0, total, size))
    assert sum(tile.size for tile in every) == total
    e = emitter(dry=True)
    visited = [(tile, e.weight) for tile in e.tiles(total, size, edges=edges, period=period)]
    assert e.weight == 1

    def kind(tile: Tile) -> tuple[str, int]:
        if edges <= tile.index < len(every) - edges:
            return "phase", (tile.index - edges) % period
        return "edge", tile.index

    counted: dict[tuple[str, int], int] = {}
    for tile, weight in visited:
        counted[kind(tile)] = counted.get(kind(tile), 0) + weight
    wanted = [kind(tile) for tile in every]
    assert counted == {key: wanted.count(key) for key in wanted}
    assert len(visited) <= 2 * edges + period


@pytest.mark.parametrize(("stripes", "weights"), [(7, [1, 5, 1]), (3, [1, 1, 1]), (2, [1, 1])])
def test_loops_within_loops_multiply(stripes: int, weights: list[int]) -> None:
    e = emitter(dry=True)
    seen = [e.weight for _ in e.tiles(stripes, 1) for _ in e.tiles(5, 1)]
    assert seen == [weight * inner for weight in weights for inner in (1, 3, 1)]
