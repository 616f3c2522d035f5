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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import MAX_RANK, Cause, DType, EngineKind, Opcode, Role, Space
from edgefusion.runtime.tensor_numbers import PLAIN, Meaning, Numbers

PROGRAM_VERSION = 2
"""Other versions are refused: a program is compiled again, not converted."""

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]


def dense_strides(shape: Sequence[int], dtype: DType) -> tuple[int, ...]:
    """Strides in bytes of a row-major tensor without gaps."""
    strides, stride = [], dtype.nbytes
    for count in reversed(shape):
        strides.append(stride)
        stride *= count
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True)
class Operand:
    """A strided view of memory: ``shape`` in elements, ``strides`` and ``address`` in bytes."""

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


@dataclass(frozen=True, slots=True)
class OpRecord:
    """An op of the compiled network. ``origin`` names the source ONNX nodes it stands for.

    ``bound_*`` are lower limits that no schedule can beat (DESIGN: bounds), for reports.
    """

    name: str
    kind: str
    origin: tuple[str, ...]
    scope: str = ""
    macs: int = 0
    bound_ps: int = 0
    bound_bytes: int = 0
    tile: str = ""


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor of the program in DRAM.

    ``numbers`` says what its elements stand for; ``scale_tensor`` is the tensor that holds a scale
    for each output channel of INT8 weights, -1 for none.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    role: Role
    address: int
    nbytes: int
    numbers: Numbers = PLAIN
    scale_tensor: int = -1
    constant: str = ""


@dataclass(frozen=True, slots=True)
class BufferRecord:
    """A range of SRAM or DRAM in use from instruction ``first`` to ``last``, inclusive."""

    name: str
    space: Space
    address: int
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The instruction, operand and dependency columns. Row i's operands are
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


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A component's program for one target and schedule."""

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
        try:
            with np.load(source, allow_pickle=False) as archive:
                tables = json.loads(archive["tables"].tobytes())
                check_version(tables["version"])
                columns = Columns(*(archive[name] for name in Columns.__slots__))
            return cls(
                tables["component"],
                tables["target"],
                tables["schedule"],
                columns,
                tuple(OpRecord(**{**r, "origin": tuple(r["origin"])}) for r in tables["ops"]),
                tuple(_tensor_record(r) for r in tables["tensors"]),
                tuple(BufferRecord(**{**r, "space": Space(r["space"])}) for r in tables["buffers"]),
                tuple(_frozen_attrs(entry) for entry in tables["attrs"]),
                tables["sram_bytes"],
                tables["dram_bytes"],
                tables["version"],
            )
        except (ValueError, KeyError, TypeError, OSError, EOFError, BadZipFile) as error:
            raise InputError(
                f"The program is damaged ({error}). Compile the model again."
            ) from error


def check_version(version: int) -> None:
    """Raise InputError for a program of another format ``version`` than this tool's."""
    if version != PROGRAM_VERSION:
        remedy = "Update the tool or compile" if version > PROGRAM_VERSION else "Compile"
        raise InputError(
            f"The program has format version {version}, this tool reads version "
            f"{PROGRAM_VERSION}. {remedy} the model again."
        )


def _tensor_record(row: dict[str, Any]) -> TensorRecord:
    row = {**row, "dtype": DType(row["dtype"]), "role": Role(row["role"])}
    numbers = Numbers(Meaning(row["numbers"]["meaning"]), row["numbers"]["scale"])
    return TensorRecord(**{**row, "shape": tuple(row["shape"]), "numbers": numbers})


def _frozen_attrs(pairs: list[list[Any]]) -> tuple[tuple[str, Any], ...]:
    """Attributes as nested tuples: JSON turns tuples into lists."""

    def freeze(value: Any) -> Any:
        return tuple(freeze(v) for v in value) if isinstance(value, list | tuple) else value

    return tuple((str(key), freeze(value)) for key, value in pairs)
