"""The ledger of DRAM traffic: which op and tensor moved how many bytes, why, and how long it took.

Every DMA instruction is one entry (or two: bytes that its op had loaded before, the halo of a
stripe, are entered as ``reread``), and every view (by op, tensor, cause or direction) is a sum over
the same entries, so that all views add up to the same totals, exactly.

``bytes`` are useful bytes, the sizes of the operands, everywhere in reports. ``bus_bytes`` are what
crosses the DRAM bus, whole bursts for each contiguous run. Times are those of the transfers
themselves, set-up included, waiting left out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgefusion.runtime import cost
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import Cause
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import I64, Program
from edgefusion.runtime.program_columns import check_ops, describe
from edgefusion.runtime.simulator import Timeline
from edgefusion.runtime.work import derive_work, durations_ps

LEDGER_SCHEMA_VERSION = 1
View = Literal["op", "tensor", "cause", "direction"]
CAUSES = tuple(cause.name.lower() for cause in Cause)
DIRECTIONS = ("read", "write")
"""``read`` is DRAM to SRAM, ``write`` SRAM to DRAM."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was moved under one name: an op, a tensor, a cause, a direction, or everything."""

    name: str
    transfers: int
    read_bytes: int
    write_bytes: int
    bus_bytes: int
    dma_ps: int

    @property
    def bytes(self) -> int:
        """Useful bytes in both directions."""
        return self.read_bytes + self.write_bytes

    def to_json(self) -> dict[str, Any]:
        """The record with units in its keys."""
        return {
            "name": self.name,
            "transfers": self.transfers,
            "bytes": self.bytes,
            "read_bytes": self.read_bytes,
            "write_bytes": self.write_bytes,
            "bus_bytes": self.bus_bytes,
            "dma_us": self.dma_ps / 1e6,
        }

    def __repr__(self) -> str:
        return f"<Traffic {self.name}: {self.bytes:,} bytes in {self.transfers:,} transfers>"


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """Entries of DMA instructions, parts of one sharing ``instruction``, its first ``transfers`` 1.

    ``key`` holds, for each view, indices into ``names`` of it.
    """

    component: str
    instruction: I64
    transfers: I64
    is_read: npt.NDArray[np.bool_]
    useful_bytes: I64
    bus_bytes: I64
    dma_ps: I64
    key: dict[View, I64]
    names: dict[View, tuple[str, ...]]

    def total(self) -> Traffic:
        """Everything, under the component's name."""
        one_key = np.zeros(len(self.instruction), dtype=np.int64)
        return self._sums(one_key, (self.component,))[0]

    def by(self, view: View) -> tuple[Traffic, ...]:
        """Sums by one key, those that moved something, most bytes first, then by name."""
        rows = self._sums(self.key[view], self.names[view])
        moved = (row for row in rows if row.transfers or row.bytes)
        return tuple(sorted(moved, key=lambda row: (-row.bytes, row.name)))

    def bytes_by_two(self, view: View, other: View) -> dict[str, dict[str, int]]:
        """Useful bytes by name of ``view``, each by name of ``other``; only what moved some."""
        others = len(self.names[other])
        pairs, entry = np.unique(self.key[view] * others + self.key[other], return_inverse=True)
        sums = np.zeros(len(pairs), dtype=np.int64)
        np.add.at(sums, entry, self.useful_bytes)
        found: dict[str, dict[str, int]] = {}
        for pair, nbytes in zip(pairs.tolist(), sums.tolist(), strict=True):
            if nbytes:
                name = self.names[view][pair // others]
                found.setdefault(name, {})[self.names[other][pair % others]] = nbytes
        return found

    def of_ops(self, names: Collection[str]) -> Ledger:
        """What these ops move, and nothing else."""
        wanted = np.array([name in names for name in self.names["op"]], dtype=np.bool_)
        kept = wanted[self.key["op"]]
        return replace(
            self,
            instruction=self.instruction[kept],
            transfers=self.transfers[kept],
            is_read=self.is_read[kept],
            useful_bytes=self.useful_bytes[kept],
            bus_bytes=self.bus_bytes[kept],
            dma_ps=self.dma_ps[kept],
            key={view: key[kept] for view, key in self.key.items()},
        )

    def bytes_by_cause(self) -> dict[str, int]:
        """Useful bytes of every cause, zeros included."""
        moved = {row.name: row.bytes for row in self.by("cause")}
        return {name: moved.get(name, 0) for name in CAUSES[1:]}

    def to_json(self) -> dict[str, Any]:
        """All views. ``by_cause`` maps every cause to its bytes, zeros included."""
        total = self.total()
        return {
            "schema_version": LEDGER_SCHEMA_VERSION,
            "component": self.component,
            "total_bytes": total.bytes,
            "total_bus_bytes": total.bus_bytes,
            "total_dma_us": total.dma_ps / 1e6,
            "by_cause": self.bytes_by_cause(),
            "by_direction": {"read": total.read_bytes, "write": total.write_bytes},
            "causes": [row.to_json() for row in self.by("cause")],
            "ops": [row.to_json() for row in self.by("op")],
            "tensors": [row.to_json() for row in self.by("tensor")],
        }

    def _sums(self, key: I64, names: tuple[str, ...]) -> list[Traffic]:
        read = np.where(self.is_read, self.useful_bytes, 0)
        columns = (self.transfers, read, self.useful_bytes - read, self.bus_bytes, self.dma_ps)
        sums = np.zeros((len(columns), len(names)), dtype=np.int64)
        for row, column in zip(sums, columns, strict=True):
            np.add.at(row, key, column)  # integers: a weighted bincount would round
        return [Traffic(name, *sums[:, i].tolist()) for i, name in enumerate(names)]

    def __repr__(self) -> str:
        total = self.total()
        return f"<Ledger {self.component}: {total.bytes:,} bytes in {total.transfers:,} transfers>"


def traffic_ledger(program: Program, machine: Machine, timeline: Timeline | None = None) -> Ledger:
    """The ledger of one evaluation of a program; ``timeline`` is its simulation on the same
    machine, if there is one.

    Raises InputError for a transfer without a cause, or with an op or tensor that is not there.
    """
    check_ops(program)
    work = derive_work(program) if timeline is None else timeline.work
    dma, c = work.dma, program.columns
    cause, tensor = c.cause[dma.index], c.operand_tensor[dma.operand]
    unnamed = (tensor < 0) | (tensor >= len(program.tensors))
    wrong = unnamed | (cause == Cause.NONE)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(
            f"{describe(program, dma.index[at])}: expected a cause and a tensor of the program for "
            f"every transfer, found cause {cause[at]} and tensor {tensor[at]} of "
            f"{len(program.tensors)}. Compile the model again."
        )
    bus = np.rint(cost.bus_bytes(machine, dma.rows, dma.row_bytes)).astype(np.int64)
    durations = durations_ps(program, machine, work) if timeline is None else timeline.duration_ps
    duration = durations[dma.index]
    again = _reread_bytes(program, dma.index)
    split = np.flatnonzero((again > 0) & (cause != Cause.REREAD))
    share = again[split] / np.maximum(dma.useful_bytes[split], 1)

    def divided(whole: I64, part: npt.NDArray[np.float64]) -> I64:
        """``whole`` with the reread parts taken out of it and appended."""
        moved = np.rint(part).astype(np.int64)
        rest = whole.copy()
        rest[split] -= moved
        return np.concatenate([rest, moved])

    entry = np.concatenate([np.arange(len(dma.index)), split])
    return Ledger(
        program.component,
        dma.index[entry],
        (np.arange(len(entry)) < len(dma.index)).astype(np.int64),
        dma.is_read[entry],
        divided(dma.useful_bytes, again[split].astype(np.float64)),
        divided(bus, bus[split] * share),
        divided(duration, duration[split] * share),
        {
            "op": c.op[dma.index][entry].astype(np.int64),
            "tensor": tensor[entry].astype(np.int64),
            "cause": np.concatenate([cause, np.full(len(split), Cause.REREAD)]).astype(np.int64),
            "direction": np.where(dma.is_read[entry], 0, 1),
        },
        {
            "op": tuple(op.name for op in program.ops),
            "tensor": tuple(record.name for record in program.tensors),
            "cause": CAUSES,
            "direction": DIRECTIONS,
        },
    )


def _reread_bytes(program: Program, index: I64) -> I64:
    """Attribute ``reread_bytes`` of each transfer, 0 where there is none, int64[transfers]."""
    by_attrs = np.array([dict(entry).get("reread_bytes", 0) for entry in program.attrs])
    found: I64 = by_attrs.astype(np.int64)[program.columns.attrs[index]]
    return found


def pipeline_traffic_json(parts: Sequence[tuple[Ledger, int]]) -> dict[str, Any]:
    """Traffic of a whole image: each component's ledger, and how often the component runs.

    ``total_bytes`` and ``by_cause`` count every evaluation; a component's own figures count one.
    """
    components = {ledger.component: ledger.to_json() for ledger, _ in parts}
    runs = [(components[ledger.component], evaluations) for ledger, evaluations in parts]
    return {
        "schema_version": LEDGER_SCHEMA_VERSION,
        "total_bytes": sum(n * part["total_bytes"] for part, n in runs),
        "total_bus_bytes": sum(n * part["total_bus_bytes"] for part, n in runs),
        "by_cause": {
            name: sum(n * part["by_cause"][name] for part, n in runs) for name in CAUSES[1:]
        },
        "by_component": {part["component"]: n * part["total_bytes"] for part, n in runs},
        "evaluations": {part["component"]: n for part, n in runs},
        "components": components,
    }
