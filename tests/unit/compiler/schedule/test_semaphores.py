"""Waits: every dependence is kept, by a queue or a wait, and none is waited for twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgefusion.compiler.schedule.dependences import Access, Region, dependence_graph
from edgefusion.compiler.schedule.list_schedule import list_schedule
from edgefusion.compiler.schedule.semaphores import EngineId, one_at_a_time, semaphore_waits
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.target import load_target
from tests.schedule_cases import accesses_of, conflict

DMA, TENSOR, VECTOR = (EngineKind.DMA, 0), (EngineKind.TENSOR, 0), (EngineKind.VECTOR, 0)
MACHINE = load_target("exynos2400").machine.with_values(semaphore_ns=0.003, dma_engines=2)


def waits(engines: list[EngineId], accesses: list[Access]) -> list[tuple[int, ...]]:
    """The waits of instructions issued in lowering order."""
    return semaphore_waits(dependence_graph(accesses), range(len(accesses)), engines)


def test_without_overlap_each_change_of_engine_waits() -> None:
    assert one_at_a_time([0, 0, 1, 2, 2]) == [(), (), (1,), (2,), ()]


def test_a_region_that_takes_over_bytes_waits_for_all_earlier_uses() -> None:
    old, source = Region(), Region(partial=True)
    unused = Region(reuses=[old])
    new = Region(reuses=[unused])
    accesses = [Access((source,), (old,)), Access((old,), (source,)), Access((source,), (new,))]
    engines: list[EngineId] = [DMA, VECTOR, TENSOR]
    kinds = [kind for kind, _ in engines]
    issue = list_schedule(dependence_graph(accesses), kinds, [5, 50, 5], MACHINE)
    assert issue.order.tolist() == [0, 1, 2]
    assert waits(engines, accesses)[2] == (0, 1)


def test_waits_drop_what_an_earlier_wait_implies() -> None:
    a, b, out = Region(), Region(), Region()
    accesses = [
        Access((), (a,)),
        Access((), (b,)),
        Access((b,), (out,)),
        Access((a,), (out,)),
    ]
    found = waits([DMA, DMA, TENSOR, TENSOR], accesses)
    assert found == [(), (), (1,), ()], "waiting for load 1 implies load 0: one queue"


def test_parts_of_a_tensor_are_written_without_waiting() -> None:
    tensor = Region(partial=True)
    accesses = [Access((), (tensor,)), Access((), (tensor,)), Access((tensor,), ())]
    assert waits([DMA, VECTOR, TENSOR], accesses) == [(), (), (0, 1)]


@given(st.data())
def test_queues_and_waits_keep_every_dependence(data: st.DataObject) -> None:
    accesses = accesses_of(data)
    count = len(accesses)
    kinds = [data.draw(st.sampled_from(EngineKind)) for _ in range(count)]
    graph = dependence_graph(accesses)
    durations = [data.draw(st.integers(0, 20)) for _ in range(count)]
    issue = list_schedule(graph, kinds, durations, MACHINE)
    order = issue.order.tolist()
    running = [(int(kinds[i]), unit) for i, unit in zip(order, issue.units.tolist(), strict=True)]
    ended: list[set[int]] = []  # of each instruction, those that are over when it starts
    for at, wait in enumerate(semaphore_waits(graph, order, running)):
        queue = [i for i in range(at) if running[i] == running[at]][-1:]
        ended.append({j for i in (*wait, *queue) for j in (i, *ended[i])})
    place = {index: at for at, index in enumerate(order)}
    for late in range(count):
        for early in range(late):
            if conflict(accesses[early], accesses[late]):
                assert place[early] in ended[place[late]]
