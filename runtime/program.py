"""The NPU program: frozen, columnar, complete.

A program holds everything an executor needs (engine, opcode, operand addresses, shapes, strides,
types, attributes, dependencies, origin), stored as numpy columns so that a simulator handles
millions of instructions a second. ``Instruction`` and ``Operand`` are views of single rows for
people, tests and the text form; ``runtime.program_builder`` appends rows; ``runtime.program_text``
prints and parses them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.groups import (
    NO_BOUNDS,
    EngineBounds,
    GroupRecord,
    OnceRecord,
    ResidentRecord,
)
from edgefusion.runtime.isa import MAX_RANK, Cause, DType, EngineKind, Opcode, Role, Space
from edgefusion.runtime.tensor_numbers import PLAIN, Numbers
from edgefusion.runtime.validation import Whole, validated

PROGRAM_VERSION = 3
"""Other versions are refused: a program is compiled again, not converted."""

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]


@cache
def dense_strides(shape: tuple[int, ...], dtype: DType) -> tuple[int, ...]:
    """Strides in bytes of a row-major tensor without gaps."""
    strides, stride = [], dtype.nbytes
    for count in reversed(shape):
        strides.append(stride)
        stride *= count
    return tuple(reversed(strides))


class Operand(NamedTuple):
    """A strided view of memory: ``shape`` in elements, ``strides`` and ``address`` in bytes.

    The compiler makes millions, and a tuple is made three times as fast as a frozen dataclass.
    """

    tensor: int
    space: Space
    address: int
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements viewed."""
        return prod(self.shape)

    @property
    def end(self) -> int:
        """First byte after the last one viewed."""
        span = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return self.address + span + self.dtype.nbytes


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. ``depends_on`` are indices of earlier instructions that must have ended."""

    engine: EngineKind
    unit: int
    opcode: Opcode
    outputs: tuple[Operand, ...]
    inputs: tuple[Operand, ...]
    op: int
    depends_on: tuple[int, ...] = ()
    cause: Cause = Cause.NONE
    attrs: tuple[tuple[str, Any], ...] = ()

    def __repr__(self) -> str:
        return (
            f"<Instruction {self.opcode.name} on {self.engine.name.lower()}{self.unit}, "
            f"op {self.op}, {len(self.inputs)} inputs, {len(self.outputs)} outputs>"
        )


@dataclass(frozen=True, slots=True)
class OpRecord:
    """An op of the compiled network. ``origin`` names the source ONNX nodes it stands for.

    ``least`` and ``bound_bytes`` are lower limits that no schedule can beat that has the op's
    operands where they are, for reports. ``group`` is a place in the program's table of groups.
    """

    name: str
    kind: str
    origin: tuple[str, ...]
    scope: str = ""
    macs: Whole = 0
    least: EngineBounds = NO_BOUNDS
    bound_bytes: Whole = 0
    tile: str = ""
    group: Whole = 0

    @property
    def bound_ps(self) -> int:
        """The least time of its busiest engine, in picoseconds."""
        return self.least.ps

    def __repr__(self) -> str:
        tile = f", {self.tile}" if self.tile else ""
        return f"<OpRecord {self.name} ({self.kind}{tile})>"


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor of the program in DRAM.

    One of shape but 0 ``nbytes`` never has a place there: it stays in SRAM (role ``SPILL``).
    ``numbers`` says what its elements stand for; ``scale_tensor`` is the tensor that holds a scale
    for each output channel of INT8 weights, -1 for none.
    """

    name: str
    dtype: DType
    shape: tuple[Whole, ...]
    role: Role
    address: Whole
    nbytes: Whole
    numbers: Numbers = PLAIN
    scale_tensor: int = -1
    constant: str = ""

    @property
    def stays_in_sram(self) -> bool:
        """Whether it is a value of the network that DRAM never holds."""
        return not self.nbytes and prod(self.shape) > 0


@dataclass(frozen=True, slots=True)
class BufferRecord:
    """A range of SRAM or DRAM in use from instruction ``first`` to ``last``, inclusive."""

    name: str
    space: Space
    address: Whole
    nbytes: Whole
    first: Whole
    last: Whole


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The instruction, operand and dependency columns, of ``COLUMN_TYPES``. Row i's operands are
    ``operand_begin[i]:operand_begin[i+1]``, its dependencies ``dep_begin[i]:dep_begin[i+1]``."""

    engine: U8
    unit: U8
    opcode: U8
    cause: U8
    op: I32
    attrs: I32
    operand_begin: I64
    dep_begin: I64
    deps: I32
    operand_tensor: I32
    operand_space: U8
    operand_dtype: U8
    operand_is_output: U8
    operand_rank: U8
    operand_address: I64
    operand_shape: I32  # [operands, MAX_RANK], left-padded with 1
    operand_strides: I64  # [operands, MAX_RANK], left-padded with 0

    def __repr__(self) -> str:
        return f"<Columns of {len(self.opcode):,} instructions>"


COLUMN_TYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for kind, names in {
        np.uint8: (
            *("engine", "unit", "opcode", "cause", "operand_space", "operand_dtype"),
            *("operand_is_output", "operand_rank"),
        ),
        np.int32: ("op", "attrs", "deps", "operand_tensor", "operand_shape"),
        np.int64: ("operand_begin", "dep_begin", "operand_address", "operand_strides"),
    }.items()
    for name in names
}


@dataclass(frozen=True, slots=True)
class _Tables:
    """What a stored program has beside its columns, as JSON."""

    component: str
    target: str
    schedule: str
    ops: tuple[OpRecord, ...]
    tensors: tuple[TensorRecord, ...]
    buffers: tuple[BufferRecord, ...]
    attrs: tuple[tuple[tuple[str, Any], ...], ...]
    sram_bytes: Whole
    dram_bytes: Whole
    version: Whole
    groups: tuple[GroupRecord, ...]
    residents: tuple[ResidentRecord, ...]
    fused: EngineBounds
    chain_ps: Whole = 0
    once: OnceRecord | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A component's program for one target and schedule.

    ``groups`` are in order (none where nobody formed any), ``residents`` what stays in SRAM between
    them. ``fused`` are lower limits over all groups that its ops could form, by engine, and
    ``chain_ps`` is one of the time that they take one after the other where data demand it.
    ``once`` says where it may begin when it runs again (``runtime.program_parts``).
    """

    component: str
    target: str
    schedule: str
    columns: Columns
    ops: tuple[OpRecord, ...]
    tensors: tuple[TensorRecord, ...]
    buffers: tuple[BufferRecord, ...]
    attrs: tuple[tuple[tuple[str, Any], ...], ...]
    sram_bytes: int = 0
    dram_bytes: int = 0
    version: int = field(default=PROGRAM_VERSION)
    groups: tuple[GroupRecord, ...] = ()
    residents: tuple[ResidentRecord, ...] = ()
    fused: EngineBounds = NO_BOUNDS
    chain_ps: int = 0
    once: OnceRecord | None = None

    def __len__(self) -> int:
        return len(self.columns.opcode)

    def instruction(self, index: int) -> Instruction:
        """Row ``index`` as a value."""
        c = self.columns
        outputs: list[Operand] = []
        inputs: list[Operand] = []
        for row in range(int(c.operand_begin[index]), int(c.operand_begin[index + 1])):
            rank = int(c.operand_rank[row])
            operand = Operand(
                int(c.operand_tensor[row]),
                Space(int(c.operand_space[row])),
                int(c.operand_address[row]),
                DType(int(c.operand_dtype[row])),
                tuple(c.operand_shape[row, MAX_RANK - rank :].tolist()),
                tuple(c.operand_strides[row, MAX_RANK - rank :].tolist()),
            )
            (outputs if c.operand_is_output[row] else inputs).append(operand)
        return Instruction(
            EngineKind(int(c.engine[index])),
            int(c.unit[index]),
            Opcode(int(c.opcode[index])),
            tuple(outputs),
            tuple(inputs),
            int(c.op[index]),
            tuple(c.deps[c.dep_begin[index] : c.dep_begin[index + 1]].tolist()),
            Cause(int(c.cause[index])),
            self.attrs[int(c.attrs[index])],
        )

    def instructions(self) -> Iterator[Instruction]:
        """All rows in program order."""
        return (self.instruction(i) for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Program):
            return NotImplemented
        return self._tables() == other._tables() and all(
            np.array_equal(getattr(self.columns, name), getattr(other.columns, name))
            for name in Columns.__slots__
        )

    def _tables(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "component": self.component,
            "target": self.target,
            "schedule": self.schedule,
            "sram_bytes": self.sram_bytes,
            "dram_bytes": self.dram_bytes,
            "attrs": [[list(pair) for pair in entry] for entry in self.attrs],
            "ops": [asdict(record) for record in self.ops],
            "tensors": [asdict(record) for record in self.tensors],
            "buffers": [asdict(record) for record in self.buffers],
            "groups": [asdict(record) for record in self.groups],
            "residents": [asdict(record) for record in self.residents],
            "fused": asdict(self.fused),
            "chain_ps": self.chain_ps,
            "once": asdict(self.once) if self.once else None,
        }

    def save(self, file: Path | BinaryIO) -> None:
        """Write the program as an ``.npz`` whose bytes depend on the program alone."""
        tables = json.dumps(self._tables(), sort_keys=True, separators=(",", ":")).encode()
        arrays = {name: getattr(self.columns, name) for name in Columns.__slots__}
        np.savez(file, tables=np.frombuffer(tables, dtype=np.uint8), **arrays)

    @classmethod
    def load(cls, file: Path | BinaryIO | bytes) -> Program:
        """Read what ``save`` wrote. Raises InputError for damage or another version."""
        source = io.BytesIO(file) if isinstance(file, bytes) else file
        advice = "Compile the model again."
        try:
            with np.load(source, allow_pickle=False) as archive:
                stored = json.loads(archive["tables"].tobytes())
                columns = Columns(*(archive[name] for name in Columns.__slots__))
        except (ValueError, KeyError, TypeError, OSError, EOFError, BadZipFile, OverflowError) as e:
            raise InputError(f"The program is damaged ({e}). {advice}") from e
        if isinstance(stored, dict) and isinstance(stored.get("version"), int):
            check_version(stored["version"])
        tables = validated(_Tables, stored, "The program is damaged", advice)
        return cls(
            tables.component,
            tables.target,
            tables.schedule,
            columns,
            tables.ops,
            tables.tensors,
            tables.buffers,
            tuple(tuple((name, _frozen(value)) for name, value in each) for each in tables.attrs),
            tables.sram_bytes,
            tables.dram_bytes,
            tables.version,
            tables.groups,
            tables.residents,
            tables.fused,
            tables.chain_ps,
            tables.once,
        )

    def __repr__(self) -> str:
        return (
            f"<Program {self.component}: {len(self):,} instructions of {len(self.ops)} ops, "
            f"{self.schedule} for {self.target}>"
        )


def check_version(version: int) -> None:
    """Raise InputError for a program of another format ``version`` than this tool's."""
    if version != PROGRAM_VERSION:
        remedy = "Update the tool or compile" if version > PROGRAM_VERSION else "Compile"
        raise InputError(
            f"The program has format version {version}, this tool reads version "
            f"{PROGRAM_VERSION}. {remedy} the model again."
        )


def _frozen(value: Any) -> Any:
    """An attribute's value as nested tuples: JSON turns tuples into lists."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
