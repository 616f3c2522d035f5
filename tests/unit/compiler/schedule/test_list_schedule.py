"""Issue order: engines stay busy, hazards hold, nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgefusion.compiler.schedule.dependences import Access, Region, dependence_graph
from edgefusion.compiler.schedule.list_schedule import list_schedule
from tests.schedule_cases import accesses_of, conflict

DMA, TENSOR, VECTOR = (0, 0), (1, 0), (2, 0)


def tiles(count: int, slots: int) -> tuple[list[tuple[int, int]], list[Access]]:
    """load x, multiply into y, store y; ``slots`` copies of each buffer."""
    x = [Region() for _ in range(slots)]
    y = [Region() for _ in range(slots)]
    source, target = Region(partial=True), Region(partial=True)
    engines, accesses = [], []
    for i in range(count):
        a, b = x[i % slots], y[i % slots]
        engines += [DMA, TENSOR, DMA]
        accesses += [Access((source,), (a,)), Access((a,), (b,)), Access((b,), (target,))]
    return engines, accesses


def test_double_buffering_loads_the_next_tile_before_storing_this_one() -> None:
    engines, accesses = tiles(4, slots=2)
    order = list_schedule(dependence_graph(accesses), engines, [10] * 12, semaphore_ps=0)
    assert order.index(3) < order.index(2)


def test_single_buffering_keeps_lowering_order() -> None:
    engines, accesses = tiles(4, slots=1)
    order = list_schedule(dependence_graph(accesses), engines, [10] * 12, semaphore_ps=0)
    assert order.index(3) > order.index(1), "the tile's buffer is still being read"


@given(st.data())
def test_order_is_a_permutation_that_respects_every_hazard(data: st.DataObject) -> None:
    accesses = accesses_of(data)
    count = len(accesses)
    engines = [data.draw(st.sampled_from([DMA, TENSOR, VECTOR])) for _ in range(count)]
    durations = [data.draw(st.integers(0, 20)) for _ in range(count)]
    order = list_schedule(dependence_graph(accesses), engines, durations, semaphore_ps=3)
    assert sorted(order) == list(range(count))
    place = {index: at for at, index in enumerate(order)}
    for late in range(count):
        for early in range(late):
            if conflict(accesses[early], accesses[late]):
                assert place[early] < place[late]
