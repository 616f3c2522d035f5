"""Issue order: engines stay busy, hazards hold, nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgefusion.compiler.schedule.hazards import Access, Region, waits
from edgefusion.compiler.schedule.list_schedule import list_schedule

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
    order = list_schedule(engines, accesses, [10] * 12, semaphore_ps=0)
    assert order.index(3) < order.index(2)


def test_single_buffering_keeps_lowering_order() -> None:
    engines, accesses = tiles(4, slots=1)
    order = list_schedule(engines, accesses, [10] * 12, semaphore_ps=0)
    assert order.index(3) > order.index(1), "the tile's buffer is still being read"


def test_a_region_that_takes_over_bytes_waits_for_all_earlier_uses() -> None:
    old, source = Region(), Region(partial=True)
    unused = Region(reuses=[old])
    new = Region(reuses=[unused])
    accesses = [Access((source,), (old,)), Access((old,), (source,)), Access((source,), (new,))]
    order = list_schedule([DMA, VECTOR, TENSOR], accesses, [5, 50, 5], semaphore_ps=0)
    assert order == [0, 1, 2]
    assert waits([DMA, VECTOR, TENSOR], accesses, overlap=True)[2] == (0, 1)


def test_waits_drop_what_an_earlier_wait_implies() -> None:
    a, b, out = Region(), Region(), Region()
    accesses = [
        Access((), (a,)),
        Access((), (b,)),
        Access((b,), (out,)),
        Access((a,), (out,)),
    ]
    found = waits([DMA, DMA, TENSOR, TENSOR], accesses, overlap=True)
    assert found == [(), (), (1,), ()], "waiting for load 1 implies load 0: one queue"


@given(st.data())
def test_order_is_a_permutation_that_respects_every_hazard(data: st.DataObject) -> None:
    regions = [Region(partial=data.draw(st.booleans())) for _ in range(4)]
    count = data.draw(st.integers(1, 30))
    some = st.lists(st.sampled_from(regions), max_size=2, unique_by=id)
    accesses = [Access(tuple(data.draw(some)), tuple(data.draw(some))) for _ in range(count)]
    engines = [data.draw(st.sampled_from([DMA, TENSOR, VECTOR])) for _ in range(count)]
    durations = [data.draw(st.integers(0, 20)) for _ in range(count)]
    order = list_schedule(engines, accesses, durations, semaphore_ps=3)
    assert sorted(order) == list(range(count))
    place = {index: at for at, index in enumerate(order)}
    for late in range(count):
        for early in range(late):
            if conflict(accesses[early], accesses[late]):
                assert place[early] < place[late]


def conflict(early: Access, late: Access) -> bool:
    """Whether two instructions touch one region and one of them overwrites it."""
    for region in {*early.reads, *early.writes} & {*late.reads, *late.writes}:
        both_write = region in early.writes and region in late.writes
        reads_and_writes = (region in early.writes and region in late.reads) or (
            region in early.reads and region in late.writes
        )
        if reads_and_writes or (both_write and not region.partial):
            return True
    return False
