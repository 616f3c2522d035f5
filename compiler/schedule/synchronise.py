"""From emitted instructions to a program: issue order and dependencies.

Emission says what each instruction touches; this decides the order in which engines take their
instructions, which of several engines of a kind takes which, and what waits for what. Without
overlap one engine of each kind works, and one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from edgefusion.compiler.schedule.dependences import Access, Region, dependence_graph
from edgefusion.compiler.schedule.list_schedule import list_schedule
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.compiler.schedule.semaphores import one_at_a_time, semaphore_waits
from edgefusion.runtime.isa import Space
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import I64, BufferRecord, Columns, Program
from edgefusion.runtime.work import durations_ps


@dataclass(frozen=True, slots=True)
class Reservation:
    """Memory that the program holds while one of ``regions`` is in use."""

    name: str
    space: Space
    address: int
    nbytes: int
    regions: Sequence[Region]


def synchronise(
    program: Program,
    accesses: Sequence[Access],
    reservations: Sequence[Reservation],
    machine: Machine,
    schedule: Schedule,
    borders: Sequence[int] = (),
) -> Program:
    """``program`` (without dependencies) in issue order, with dependencies and buffer records.

    Instructions of its parts, between which lie ``borders``, are not mixed.
    """
    columns = program.columns
    if schedule.overlap:
        durations = durations_ps(program, machine)
        graph = dependence_graph(accesses)
        orders, units = [], []
        for start, end in pairwise((0, *borders, len(program))):
            part = slice(start, end)
            inside = dependence_graph(accesses[part]) if borders else graph
            issue = list_schedule(inside, columns.engine[part], durations[part], machine)
            orders.append(issue.order + start)
            units.append(issue.units)
        issued, unit = np.concatenate(orders), np.concatenate(units)
        columns = replace(_permuted(columns, issued), unit=unit.astype(np.uint8))
        order = issued.tolist()
        accesses = [accesses[i] for i in order]
        engines = list(zip(columns.engine.tolist(), unit.tolist(), strict=True))
        found = semaphore_waits(graph, order, engines)
    else:
        found = one_at_a_time(columns.engine.tolist())
    columns = replace(
        columns,
        deps=np.array([i for wait in found for i in wait], dtype=np.int32),
        dep_begin=np.cumsum([0, *(len(wait) for wait in found)], dtype=np.int64),
    )
    return replace(program, columns=columns, buffers=_records(accesses, reservations))


def _permuted(columns: Columns, order: I64) -> Columns:
    """Rows in ``order``, each with its operands."""
    sizes = np.diff(columns.operand_begin)[order]
    begin = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    first = np.repeat(columns.operand_begin[:-1][order] - begin[:-1], sizes)
    operands = np.arange(begin[-1]) + first
    rows = {
        name: getattr(columns, name)[order]
        for name in ("engine", "unit", "opcode", "cause", "op", "attrs")
    }
    moved = {
        name: getattr(columns, name)[operands]
        for name in Columns.__slots__
        if name.startswith("operand_") and name != "operand_begin"
    }
    return replace(columns, operand_begin=begin, **rows, **moved)


def _records(
    accesses: Sequence[Access], reservations: Sequence[Reservation]
) -> tuple[BufferRecord, ...]:
    """When each reservation is first and last touched; untouched ones are left out."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for index, access in enumerate(accesses):
        for region in (*access.reads, *access.writes):
            first.setdefault(id(region), index)
            last[id(region)] = index
    records = []
    for r in reservations:
        touched = [id(region) for region in r.regions if id(region) in first]
        if touched:
            begin, end = min(first[i] for i in touched), max(last[i] for i in touched)
            records.append(BufferRecord(r.name, r.space, r.address, r.nbytes, begin, end))
    return tuple(records)
