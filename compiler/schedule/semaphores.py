"""Where engines wait for each other: the dependences that no queue keeps already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgefusion.compiler.schedule.dependences import DependenceGraph

EngineId = tuple[int, int]
"""An engine's kind and unit."""


def one_at_a_time(kinds: Sequence[int]) -> list[tuple[int, ...]]:
    """The waits of instructions each of which follows the one before it, by kind of engine."""
    return [(i - 1,) if i and kinds[i - 1] != kind else () for i, kind in enumerate(kinds)]


def semaphore_waits(
    graph: DependenceGraph, order: Sequence[int], engines: Sequence[EngineId]
) -> list[tuple[int, ...]]:
    """For each instruction in issue order, the places in it of those that it waits for.

    ``order`` are the instructions of ``graph`` as they are issued, ``engines`` where each of these
    runs. Waits that an engine's own queue or an earlier wait of the same engine implies are left
    out, as a semaphore allocator would.
    """
    place = [0] * graph.instructions
    for at, index in enumerate(order):
        place[index] = at
    joins: dict[int, dict[EngineId, int]] = {}

    def latest(before: Iterable[int]) -> dict[EngineId, int]:
        """The last of the instructions ``before``, by engine."""
        found: dict[EngineId, int] = {}
        for node in before:
            if node < graph.instructions:
                at = place[node]
                if at > found.get(engines[at], -1):
                    found[engines[at]] = at
            else:
                _raise_to(found, joins[node])
        return found

    for node in range(graph.instructions, len(graph.before)):
        joins[node] = latest(graph.before[node])
    seen: dict[EngineId, dict[EngineId, int]] = {engine: {} for engine in set(engines)}
    waits = []
    for index, engine in zip(order, engines, strict=True):
        needed = latest(graph.before[index])
        needed.pop(engine, None)
        known = seen[engine]
        waits.append(tuple(sorted(at for other, at in needed.items() if at > known.get(other, -1))))
        _raise_to(known, needed)
    return waits


def _raise_to(target: dict[EngineId, int], source: dict[EngineId, int]) -> None:
    for engine, at in source.items():
        if at > target.get(engine, -1):
            target[engine] = at
