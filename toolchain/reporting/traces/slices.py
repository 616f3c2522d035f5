"""Slices of a trace: one evaluation's op runs, instructions and waits, in the order of time.

An op run is a stretch of an engine's instructions that belong to one op; where ops overlap, an op
has several on an engine. An engine works through its instructions in program order, so slices of
one track never cross. Steps at one time are in program order, a wait before what waited.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.isa import Cause, EngineKind, Opcode
from edgefusion.runtime.ledger import CAUSES
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import I64
from edgefusion.runtime.waits import waits_of
from edgefusion.toolchain.profiling.profile import ComponentProfile

Arguments = Mapping[str, str | int]
OP, INSTRUCTION, WAIT = "op", "instruction", "wait"
_CHUNK = 4096
_NOTHING: Arguments = {}
# What may happen around an instruction, in this order
_RESULT, _RESULT_END, _SIGNAL, _SIGNAL_END, _RUN, _START, _BUS, _BUS_END, _END, _RUN_END = range(10)
_OPENS = (_RESULT, _SIGNAL, _RUN, _START, _BUS)


@dataclass(frozen=True, slots=True)
class Step:
    """A slice of ``engine`` begins, or, without a name, ends. Flows are numbered from 0."""

    engine: int
    time_ps: int
    name: str | None = None
    category: str = ""
    arguments: Arguments = field(default_factory=dict)
    leaving: tuple[int, ...] = ()
    arriving: tuple[int, ...] = ()


class Steps:
    """The steps of a component; its columns are kept, single steps are made as they are asked for.

    ``flows`` is how many there are: one for every dependency between two engines.
    """

    def __init__(self, component: ComponentProfile, machine: Machine) -> None:
        self._component = component
        self._program, self._timeline = component.program, component.timeline
        self.waits = waits_of(self._program, self._timeline, machine)
        self._runs = _Runs(self._program.columns.op, self._timeline.engine)
        self._transfers = _transfer_arguments(component)
        tensor = self._timeline.work.tensor
        self._macs = dict(zip(tensor.index.tolist(), tensor.macs.tolist(), strict=True))
        moved = np.zeros(len(self._program), np.int64)
        moved[self._timeline.work.dma.index] = self._timeline.work.dma.useful_bytes
        self._run_bytes = self._runs.sums(moved)
        self._flows = _Flows(component)
        self.flows = self._flows.count
        self._time, self._index, self._what = self._order()

    def __iter__(self) -> Iterator[Step]:
        engine = self._timeline.engine
        for first in range(0, len(self._time), _CHUNK):
            rows = slice(first, first + _CHUNK)
            index = self._index[rows]
            yield from map(
                self._step,
                index.tolist(),
                self._what[rows].tolist(),
                engine[index].tolist(),
                self._time[rows].tolist(),
            )

    def _order(self) -> tuple[I64, I64, I64]:
        """Times, instructions and what happens, sorted by time and then as they are nested."""
        start, end, waits = self._timeline.start_ps, self._timeline.end_ps, self.waits
        everything = np.arange(len(start))
        seen = start - waits.signal_ps
        result, signal = np.flatnonzero(waits.result_ps), np.flatnonzero(waits.signal_ps)
        bus, runs = np.flatnonzero(waits.bus_ps), self._runs
        granted = waits.bus_start_ps
        happens: list[tuple[int, I64, I64]] = [
            (_RESULT, result, seen - waits.result_ps),
            (_RESULT_END, result, seen),
            (_SIGNAL, signal, seen),
            (_SIGNAL_END, signal, start),
            (_RUN, runs.first, start),
            (_START, everything, start),
            (_BUS, bus, granted - waits.bus_ps),
            (_BUS_END, bus, granted),
            (_END, everything, end),
            (_RUN_END, runs.last, end),
        ]
        time = np.concatenate([times[index] for _, index, times in happens])
        index = np.concatenate([index for _, index, _ in happens])
        what = np.concatenate([np.full(len(index), code) for code, index, _ in happens])
        order = np.lexsort((what, index, time))
        return time[order], index[order], what[order]

    def _step(self, index: int, what: int, engine: int, time_ps: int) -> Step:
        if what not in _OPENS:
            return Step(engine, time_ps)
        if what == _RUN:
            return self._run(index, engine, time_ps)
        if what == _START:
            return self._instruction(index, engine, time_ps)
        if what == _BUS:
            arguments: Arguments = {"instruction": index}
            return Step(engine, time_ps, "waits for bus", WAIT, arguments)
        on = int(self.waits.on[index])
        awaited = self._program.ops[int(self._program.columns.op[on])]
        kind = EngineKind(self._timeline.kinds[int(self._timeline.engine[on])])
        reason = kind.name.lower() if what == _RESULT else "semaphore"
        arguments = {
            "instruction": index,
            "waits_for_instruction": on,
            "waits_for_op": awaited.name,
            "waits_for_module": awaited.scope,
        }
        return Step(engine, time_ps, f"waits for {reason}", WAIT, arguments)

    def _run(self, index: int, engine: int, time_ps: int) -> Step:
        op = self._program.ops[int(self._program.columns.op[index])]
        run = int(self._runs.of[index])
        arguments: dict[str, str | int] = {
            "op": op.name,
            "kind": op.kind,
            "module": op.scope,
            "origin": ", ".join(op.origin),
            "tile": op.tile,
            "first_instruction": index,
            "instructions": int(self._runs.length[run]),
        }
        if self._run_bytes[run]:
            arguments["bytes"] = int(self._run_bytes[run])
        return Step(engine, time_ps, op_label(op.kind, op.scope or op.name), OP, arguments)

    def _instruction(self, index: int, engine: int, time_ps: int) -> Step:
        columns = self._program.columns
        op = self._program.ops[int(columns.op[index])]
        name = Opcode(int(columns.opcode[index])).name
        arguments = {
            "opcode": name,
            "instruction": index,
            "op": op.name,
            "module": op.scope,
            **self._transfers.get(index, _NOTHING),
        }
        if index in self._macs:
            arguments["macs"] = self._macs[index]
        leaving, arriving = self._flows.leaving(index), self._flows.arriving(index)
        return Step(engine, time_ps, name.lower(), INSTRUCTION, arguments, leaving, arriving)


def op_label(kind: str, module: str) -> str:
    """How slices of an op are called: what it does and where it is from."""
    return f"{kind} {module}"


class _Runs:
    """Stretches of one op on one engine: ``of`` [instructions] numbers them; of each its ``first``
    and ``last`` instruction and its ``length``."""

    def __init__(self, op: npt.NDArray[np.int32], engine: npt.NDArray[np.uint8]) -> None:
        order = np.argsort(engine, kind="stable")
        starts = np.ones(len(order), np.bool_)
        starts[1:] = (op[order[1:]] != op[order[:-1]]) | (engine[order[1:]] != engine[order[:-1]])
        number = np.cumsum(starts) - 1
        self.of = np.empty(len(order), np.int64)
        self.of[order] = number
        self.first: I64 = order[starts]
        self.last: I64 = order[np.roll(starts, -1)]  # before the next one's first
        self.length: I64 = np.bincount(number, minlength=len(self.first))

    def sums(self, values: I64) -> I64:
        """Of int64[instructions], the sum of each run."""
        total = np.zeros(len(self.first), np.int64)
        np.add.at(total, self.of, values)
        return total


class _Flows:
    """Dependencies between engines, numbered from 0 in program order."""

    def __init__(self, component: ComponentProfile) -> None:
        c, engine = component.program.columns, component.timeline.engine
        to = np.repeat(np.arange(len(component.program)), np.diff(c.dep_begin))
        across = engine[c.deps] != engine[to]
        source, to = c.deps[across].astype(np.int64), to[across]
        self.count = len(to)
        self._by_source = np.argsort(source, kind="stable")
        rows = np.arange(len(component.program) + 1)
        self._leaves = np.searchsorted(source[self._by_source], rows)
        self._arrives = np.searchsorted(to, rows)

    def leaving(self, index: int) -> tuple[int, ...]:
        """Flows from an instruction."""
        rows: list[int] = self._by_source[self._leaves[index] : self._leaves[index + 1]].tolist()
        return tuple(rows)

    def arriving(self, index: int) -> tuple[int, ...]:
        """Flows to an instruction."""
        return tuple(range(self._arrives[index], self._arrives[index + 1]))


def _transfer_arguments(component: ComponentProfile) -> dict[int, dict[str, Any]]:
    """Of each transfer, what the ledger has of it. Bytes that were read before are ``reread_bytes``
    of ``bytes``; the others moved for ``cause``."""
    ledger = component.ledger
    tensors = ledger.names["tensor"]
    found: dict[int, dict[str, Any]] = {}
    rows = zip(
        ledger.instruction.tolist(),
        ledger.is_read.tolist(),
        ledger.useful_bytes.tolist(),
        ledger.key["cause"].tolist(),
        ledger.key["tensor"].tolist(),
        ledger.transfers.tolist(),
        strict=True,
    )
    for index, is_read, nbytes, cause, tensor, whole in rows:
        if whole:
            found[index] = {
                "bytes": nbytes,
                "direction": "read" if is_read else "write",
                "cause": CAUSES[cause],
                "tensor": tensors[tensor],
            }
        elif nbytes:
            found[index]["bytes"] += nbytes
            found[index][f"{Cause.REREAD.name.lower()}_bytes"] = nbytes
    return found
