"""Issue order: engines stay busy, hazards hold, nothing is lost."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from edgefusion.compiler.schedule.dependences import (
    Access,
    DependenceGraph,
    Region,
    dependence_graph,
)
from edgefusion.compiler.schedule.list_schedule import list_schedule
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.target import load_target
from tests.schedule_cases import accesses_of, conflict

DMA, TENSOR, VECTOR = EngineKind.DMA, EngineKind.TENSOR, EngineKind.VECTOR
MACHINE = load_target("exynos2400").machine.with_values(semaphore_ns=0, dma_setup_ns=0)


def tiles(count: int, slots: int) -> tuple[list[EngineKind], list[Access]]:
    """load x, multiply into y, store y; ``slots`` copies of each buffer."""
    x = [Region() for _ in range(slots)]
    y = [Region() for _ in range(slots)]
    source, target = Region(partial=True), Region(partial=True)
    kinds: list[EngineKind] = []
    accesses = []
    for i in range(count):
        a, b = x[i % slots], y[i % slots]
        kinds += [DMA, TENSOR, DMA]
        accesses += [Access((source,), (a,)), Access((a,), (b,)), Access((b,), (target,))]
    return kinds, accesses


def test_double_buffering_loads_the_next_tile_before_storing_this_one() -> None:
    kinds, accesses = tiles(4, slots=2)
    order = list_schedule(dependence_graph(accesses), kinds, [10] * 12, MACHINE).order.tolist()
    assert order.index(3) < order.index(2)


def test_single_buffering_keeps_lowering_order() -> None:
    kinds, accesses = tiles(4, slots=1)
    order = list_schedule(dependence_graph(accesses), kinds, [10] * 12, MACHINE).order.tolist()
    assert order.index(3) > order.index(1), "the tile's buffer is still being read"


def test_engines_of_a_kind_share_the_instructions() -> None:
    """Independent products take the engine that is free first, the lowest of several."""
    accesses = [Access((), (Region(),)) for _ in range(5)]
    machine = MACHINE.with_values(tensor_engines=2)
    issue = list_schedule(dependence_graph(accesses), [TENSOR] * 5, [30, 10, 10, 10, 5], machine)
    assert issue.order.tolist() == [0, 1, 2, 3, 4]
    assert issue.units.tolist() == [0, 1, 1, 1, 0]
    assert issue.end_ps == 35


def test_a_chain_stays_on_its_engine() -> None:
    """Sums into one region need no signal while they stay where they are."""
    sums, other = Region(), Region()
    accesses = [Access((), (other,)), *(Access((), (sums,)) for _ in range(3))]
    machine = MACHINE.with_values(tensor_engines=2, semaphore_ns=1)
    issue = list_schedule(dependence_graph(accesses), [TENSOR] * 4, [5, 10, 10, 10], machine)
    assert (issue.order.tolist(), issue.units.tolist()) == ([0, 1, 2, 3], [0, 1, 1, 1])


def long_load_beside_a_store(vector_ps: int) -> list[int]:
    """A product, what a vector engine makes of it, the store of that, and a load of 80 ps that the
    product has made room for: in which order."""
    y, z, room, target = Region(), Region(), Region(), Region()
    accesses = [
        Access((), (y, room)),
        Access((y,), (z,)),
        Access((z,), (target,)),
        Access((), (room,)),
    ]
    kinds, durations = [TENSOR, VECTOR, DMA, DMA], [10, vector_ps, 5, 80]
    return list_schedule(dependence_graph(accesses), kinds, durations, MACHINE).order.tolist()


def test_a_long_transfer_waits_for_a_short_one_that_is_nearly_ready() -> None:
    assert long_load_beside_a_store(vector_ps=10) == [0, 1, 2, 3]


def test_no_transfer_waits_for_long() -> None:
    assert long_load_beside_a_store(vector_ps=11) == [0, 1, 3, 2]


def test_each_kind_is_at_work_from_its_first_to_its_last() -> None:
    a, b, c = Region(), Region(), Region()
    accesses = [Access((), (a,)), Access((a,), (b,)), Access((b,), (c,)), Access((c,), ())]
    machine = MACHINE.with_values(semaphore_ns=0.002)
    issue = list_schedule(
        dependence_graph(accesses), [DMA, TENSOR, VECTOR, TENSOR], [7, 10, 3, 5], machine
    )
    spans = issue.spans_ps.tolist()
    assert [spans[kind] for kind in (DMA, TENSOR, VECTOR)] == [[0, 7], [9, 31], [21, 24]]
    assert issue.end_ps == 31


def test_dma_channels_share_the_bus() -> None:
    """A second channel hides its set-up and no more."""
    loads = [Access((), (Region(),)) for _ in range(3)]
    machine = MACHINE.with_values(dma_engines=2, dma_setup_ns=0.004)
    issue = list_schedule(dependence_graph(loads), [DMA] * 3, [10, 10, 10], machine)
    assert issue.units.tolist() == [0, 1, 0], "0 is free at 10, 1 at 16"


@given(st.data())
def test_order_is_a_permutation_that_respects_every_hazard(data: st.DataObject) -> None:
    accesses = accesses_of(data)
    count = len(accesses)
    kinds = [data.draw(st.sampled_from([DMA, TENSOR, VECTOR])) for _ in range(count)]
    durations = [data.draw(st.integers(0, 20)) for _ in range(count)]
    units = data.draw(st.integers(1, 3))
    machine = MACHINE.with_values(semaphore_ns=0.003, tensor_engines=units, dma_engines=units)
    issue = list_schedule(dependence_graph(accesses), kinds, durations, machine)
    order = issue.order.tolist()
    for index, unit in zip(order, issue.units.tolist(), strict=True):
        assert 0 <= unit < machine.engines[kinds[index]]
    assert sorted(order) == list(range(count))
    place = {index: at for at, index in enumerate(order)}
    for late in range(count):
        for early in range(late):
            if conflict(accesses[early], accesses[late]):
                assert place[early] < place[late]


@given(st.data())
def test_engines_take_what_a_plain_simulation_says(data: st.DataObject) -> None:
    graph = dependence_graph(accesses_of(data))
    count = graph.instructions
    kinds = [data.draw(st.sampled_from([DMA, TENSOR, VECTOR])) for _ in range(count)]
    durations = [data.draw(st.integers(0, 60)) for _ in range(count)]
    engines = {kind: data.draw(st.integers(1, 3)) for kind in (DMA, TENSOR, VECTOR)}
    machine = MACHINE.with_values(
        semaphore_ns=data.draw(st.sampled_from([0, 0.003])),
        dma_setup_ns=0.002,
        **{f"{kind.name.lower()}_engines": units for kind, units in engines.items()},
    )
    backwards: list[list[int]] = [[] for _ in graph.before]
    for node, earlier in enumerate(graph.before):
        for other in earlier:
            backwards[other].append(node)
    first = simulation(count, graph.before, range(count), kinds, durations, machine)
    back = simulation(count, backwards, ranked(first[0]), kinds, durations, machine, patient=False)
    second = simulation(count, graph.before, ranked(back[0]), kinds, durations, machine)
    issue = list_schedule(graph, kinds, durations, machine)
    best = min(first, second, key=lambda found: found[2])
    assert (issue.order.tolist(), issue.units.tolist(), issue.end_ps) == best


def ranked(order: list[int]) -> list[int]:
    """The place of each instruction in the order read from its end."""
    return [order[::-1].index(node) for node in range(len(order))]


def simulation(
    count: int,
    before: Sequence[Sequence[int]],
    ranks: Sequence[int],
    kinds: Sequence[EngineKind],
    durations: Sequence[int],
    machine: Machine,
    *,
    patient: bool = True,
) -> tuple[list[int], list[int], int]:
    """Order, units and end of a list schedule, in so many words: joins are looked through.
    ``patient`` engines wait up to an eighth of an instruction's time for one that comes before."""

    def through(nodes: Sequence[int]) -> set[int]:
        return {i for n in nodes for i in ([n] if n < count else through(before[n]))}

    waits = [through(before[node]) for node in range(count)]
    semaphore_ps, setup_ps = (
        round(1000 * ns) for ns in (machine.semaphore_ns, machine.dma_setup_ns)
    )

    def ready_at(node: int) -> int:
        signals = (end[i] + (semaphore_ps if kinds[i] != kinds[node] else 0) for i in waits[node])
        return max(signals, default=0)

    def is_known(node: int, now: int) -> bool:
        """Whether it can be said when it is ready: a join says so when all before it has ended."""
        joined = through([n for n in before[node] if n >= count])
        return waits[node] <= end.keys() and all(end[i] <= now for i in joined)

    free_at = {kind: [0] * machine.engines[kind] for kind in (DMA, TENSOR, VECTOR)}
    end: dict[int, int] = {}
    unit_of: dict[int, int] = {}
    bus_free, events = 0, [0]
    while events:
        now = heapq.heappop(events)
        for kind, free in sorted(free_at.items(), reverse=True):
            idle = [unit for unit, at in enumerate(free) if at <= now]
            open_ = [n for n in range(count) if kinds[n] == kind and n not in end]
            own = [n for n in open_ if waits[n] <= end.keys() and ready_at(n) <= now]
            coming = [n for n in open_ if n not in own and is_known(n, now)]
            for node in sorted(own, key=lambda n: ranks[n])[: len(idle)]:
                until = now + durations[node] // 8
                earlier = [n for n in coming if ranks[n] < ranks[node]]
                if patient and any(ready_at(n) <= until for n in earlier):
                    break
                beside = [i for i in unit_of if i in before[node] and kinds[i] == kind]
                home = unit_of[beside[-1]] if beside else 0
                unit = home if home in idle else idle[0]
                idle.remove(unit)
                end[node], unit_of[node] = now + durations[node], unit
                if kind == DMA:
                    end[node] = bus_free = max(end[node], bus_free + durations[node] - setup_ps)
                free[unit] = end[node]
                heapq.heappush(events, end[node])
                heapq.heappush(events, end[node] + semaphore_ps)
    return list(end), list(unit_of.values()), max(end.values())


def test_what_the_rest_waits_for_goes_first() -> None:
    """In lowering order the tensor engine would wait for both loads."""
    graph = DependenceGraph(3, [[], [], [1]])
    issue = list_schedule(graph, [DMA, DMA, TENSOR], [10_000_000, 10_000_000, 50_000_000], MACHINE)
    assert issue.order.tolist() == [1, 2, 0]


def test_a_signal_takes_as_long_through_a_join() -> None:
    """A store and a load wait for the same product: the load is not ready before."""
    graph = DependenceGraph(3, [[], [0], [3], [0]])
    machine = MACHINE.with_values(semaphore_ns=220)
    issue = list_schedule(graph, [TENSOR, DMA, DMA], [10_000_000] * 3, machine)
    assert issue.order.tolist() == [0, 1, 2]
