"""What each instruction has to do, derived from its operands: the sizes that the cost model takes.

In: a program's columns. Out: one table a kind of engine (``DmaWork``, ``TensorWork``, ...), each
with the indices of its instructions, and ``durations_ps``, their time. Whole columns are handled at
a time. Epilogues (bias, activation) ride on the tensor engine's drain and cost nothing extra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgefusion.runtime import cost
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import (
    DTYPE_BYTES,
    MAX_RANK,
    VECTOR_FUNCTIONS,
    DType,
    EngineKind,
    Opcode,
    Space,
)
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.opcodes import SPECIFICATIONS
from edgefusion.runtime.program import I64, Program
from edgefusion.runtime.program_columns import (
    OperandRows,
    attribute_uses,
    check_columns,
    describe,
)
from edgefusion.runtime.specification import Counted

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class DmaWork:
    """Transfers of ``rows`` runs of ``row_bytes``; ``operand`` is the row of the DRAM side.

    Only the DRAM side pays whole bursts; SRAM is reachable at any stride.
    """

    index: I64
    operand: I64
    is_read: Mask
    rows: I64
    row_bytes: I64

    @property
    def useful_bytes(self) -> I64:
        """Bytes of the operand, int64[transfers]."""
        return self.rows * self.row_bytes

    def __repr__(self) -> str:
        return f"<DmaWork of {len(self.index):,} instructions>"


@dataclass(frozen=True, slots=True, eq=False)
class TensorWork:
    """``batch`` products m x n x k each, and the bytes of all of them that pass the array's ports:
    the first operand is fed, and so are the sums that the accumulators start from, the second is
    loaded and held, the result is drained. ``rate_class`` indexes ``cost.RATE_CLASSES``."""

    index: I64
    batch: I64
    m: I64
    n: I64
    k: I64
    feed_bytes: I64
    load_bytes: I64
    drain_bytes: I64
    rate_class: I64

    @property
    def macs(self) -> I64:
        """Useful multiply-accumulates, without the array's padding, int64[products]."""
        return self.batch * self.m * self.n * self.k

    def __repr__(self) -> str:
        return f"<TensorWork of {len(self.index):,} instructions>"


@dataclass(frozen=True, slots=True, eq=False)
class VectorWork:
    """``elements`` to handle and the cost class ``function``, an index of ``VECTOR_FUNCTIONS``."""

    index: I64
    elements: I64
    function: I64

    def __repr__(self) -> str:
        return f"<VectorWork of {len(self.index):,} instructions>"


@dataclass(frozen=True, slots=True, eq=False)
class HostWork:
    """Calls of host functions: ``moved_bytes`` of all operands and of the constants that they read,
    and ``operations``, each as much as an FP32 multiply-accumulate."""

    index: I64
    moved_bytes: I64
    operations: I64

    def __repr__(self) -> str:
        return f"<HostWork of {len(self.index):,} instructions>"


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """The work of a whole program; every instruction is in exactly one table."""

    dma: DmaWork
    tensor: TensorWork
    vector: VectorWork
    host: HostWork

    def __repr__(self) -> str:
        return f"<Work: {self.dma}, {self.tensor}, {self.vector}, {self.host}>"


def derive_work(program: Program) -> Work:
    """The work of every instruction. Raises InputError, naming the instruction, for a wrong engine,
    missing operands, operand types without a MAC rate, and shapes that disagree."""
    check_columns(program)
    rows = OperandRows(program)
    engine = program.columns.engine
    return Work(
        _dma_work(program, rows, np.flatnonzero(engine == EngineKind.DMA)),
        _tensor_work(program, rows, np.flatnonzero(engine == EngineKind.TENSOR)),
        _vector_work(program, rows, np.flatnonzero(engine == EngineKind.VECTOR)),
        _host_work(program, np.flatnonzero(engine == EngineKind.HOST)),
    )


def durations_ps(program: Program, machine: Machine, work: Work | None = None) -> I64:
    """Picoseconds of each instruction on its own engine, without waiting, int64[instructions].

    ``work`` saves deriving it again.
    """
    work = derive_work(program) if work is None else work
    dma, tensor, vector, host = work.dma, work.tensor, work.vector, work.host
    duration = np.zeros(len(program), dtype=np.int64)
    duration[dma.index] = cost.to_ps(cost.dma_ns(machine, dma.rows, dma.row_bytes))
    rate = cost.tensor_rates(machine)[tensor.rate_class]
    duration[tensor.index] = cost.to_ps(
        cost.tensor_ns(
            machine,
            tensor.m,
            tensor.n,
            tensor.k,
            tensor.feed_bytes,
            tensor.load_bytes,
            tensor.drain_bytes,
            rate,
            tensor.batch,
        )
    )
    cycles = cost.vector_costs(machine)[vector.function]
    duration[vector.index] = cost.to_ps(cost.vector_ns(machine, vector.elements, cycles))
    duration[host.index] = cost.to_ps(cost.host_ns(machine, host.moved_bytes, host.operations))
    return duration


def _dma_work(program: Program, operands: OperandRows, index: I64) -> DmaWork:
    """Runs of the DRAM side: contiguous trailing dimensions, those of size 1 skipped, make one run.

    The engine walks the view in its own order, so a transposed view pays a burst an element.
    """
    operands.require(index, outputs=1, inputs=1)
    is_read = program.columns.opcode[index] == Opcode.LOAD
    row = np.where(is_read, operands.first_input[index], operands.first_output[index])
    wrong = program.columns.operand_space[row] != Space.DRAM
    if wrong.any():
        raise InputError(
            f"{describe(program, index[wrong][0])}: a LOAD must read DRAM and a STORE write it, "
            "found an SRAM operand on that side."
        )
    strides = program.columns.operand_strides[row]
    row_bytes = DTYPE_BYTES[program.columns.operand_dtype[row]]
    rows = np.ones(len(row), dtype=np.int64)
    growing = np.ones(len(row), dtype=np.bool_)
    for dim in reversed(range(MAX_RANK)):
        size = operands.size(row, dim)
        growing &= (size == 1) | (strides[:, dim] == row_bytes)
        row_bytes = row_bytes * np.where(growing, size, 1)
        rows *= np.where(growing, 1, size)
    return DmaWork(index, row, is_read, rows, row_bytes)


_RATE_CLASS = np.full((len(DType), len(DType)), -1, dtype=np.int64)
for _types, _name in {
    (DType.INT8, DType.INT8): "w8a8",
    (DType.INT16, DType.INT8): "w8a16",
    (DType.INT16, DType.INT16): "a16a16",
    (DType.FP16, DType.FP16): "fp16",
}.items():
    _RATE_CLASS[_types] = cost.RATE_CLASSES.index(_name)


def _tensor_work(program: Program, operands: OperandRows, index: I64) -> TensorWork:
    """CONV2D y[h,w,n], x, w[n,c,kh,kw] and MATMUL y[b,m,n], a[b,m,k], b[b,k,n], left-padded.

    An INT64 product may have a column more, which sums the rows of a: they pass by anyway. A first
    operand without a batch is fed to each product; a second one is loaded once and stays.
    """
    operands.require(index, outputs=1, inputs=2)
    y, x = operands.first_output[index], operands.first_input[index]
    w = x + 1
    types = program.columns.operand_dtype
    rate_class = _RATE_CLASS[types[x], types[w]]
    if (rate_class < 0).any():
        at = int(np.argmax(rate_class < 0))
        raise InputError(
            f"{describe(program, index[at])}: the tensor engine multiplies int8 x int8, "
            "int16 x int8, int16 x int16 and fp16 x fp16, found "
            f"{DType(types[x[at]]).name.lower()} x {DType(types[w[at]]).name.lower()}."
        )
    conv = program.columns.opcode[index] == Opcode.CONV2D
    outer = operands.size(y, 0) * operands.size(y, 1)
    with_sums = ~conv & (types[y] == DType.INT64) & (operands.size(y, 3) > operands.size(w, 3))
    inner, n = operands.size(y, 2), operands.size(y, 3) - with_sums
    window = operands.size(w, 1) * operands.size(w, 2) * operands.size(w, 3)
    depth = operands.size(x, 3)
    agrees = np.where(
        conv,
        operands.size(w, 0) == n,
        (operands.size(x, 2) == inner)
        & (operands.size(w, 2) == depth)
        & (operands.size(w, 3) == n),
    )
    if not agrees.all():
        at = int(np.argmin(agrees))
        shapes = (tuple(program.columns.operand_shape[row[at]].tolist()) for row in (y, x, w))
        raise InputError(
            f"{describe(program, index[at])}: operand shapes disagree, found output, first and "
            "second input {} <- {}, {}.".format(*shapes)
        )
    nbytes = DTYPE_BYTES[types]
    fed = np.where(conv, operands.elements(x), outer * inner * depth)
    sum_bytes = np.where(types[x] == DType.FP16, DType.FP32.nbytes, DType.INT64.nbytes)
    return TensorWork(
        index,
        batch=np.where(conv, 1, outer),
        m=np.where(conv, outer * inner, inner),
        n=n,
        k=np.where(conv, window, depth),
        feed_bytes=fed * nbytes[x] + _goes_on(program, index) * operands.elements(y) * sum_bytes,
        load_bytes=operands.elements(w) * nbytes[w],
        drain_bytes=operands.elements(y) * nbytes[y],
        rate_class=rate_class,
    )


def _goes_on(program: Program, index: I64) -> Mask:
    """Whether products start from earlier sums, which go into the array as the first operand does:
    those in the result, or an operand of the result's size."""
    flags = [{"accumulate", "sums"} & {n for n, value in attrs if value} for attrs in program.attrs]
    return np.array([bool(found) for found in flags], dtype=np.bool_)[program.columns.attrs[index]]


_CLASS = {name: number for number, name in enumerate(VECTOR_FUNCTIONS)}
_COUNTS_INPUT = np.array([SPECIFICATIONS[code].counted is Counted.INPUT for code in Opcode])


def _vector_work(program: Program, operands: OperandRows, index: I64) -> VectorWork:
    """Elements of the output, or of the input where one output takes many, as specified."""
    operands.require(index, outputs=1, inputs=1)
    opcode, attrs = program.columns.opcode[index], program.columns.attrs[index]
    function, window = np.ones((2, len(Opcode), len(program.attrs)), dtype=np.int64)
    for code, entry in attribute_uses(program).tolist():
        specification, named = SPECIFICATIONS[Opcode(code)], dict(program.attrs[entry])
        if specification.engine is EngineKind.VECTOR:
            function[code, entry] = _CLASS[specification.cost_class_of(named.get("function", ""))]
        if specification.counted is Counted.WINDOWS:
            window[code, entry] = np.prod(named.get("kernel", 1))
    counted = np.where(
        _COUNTS_INPUT[opcode], operands.first_input[index], operands.first_output[index]
    )
    elements = operands.elements(counted) * window[opcode, attrs]
    return VectorWork(index, elements, function[opcode, attrs])


def _host_work(program: Program, index: I64) -> HostWork:
    c = program.columns
    nbytes = c.operand_shape.prod(axis=1, dtype=np.int64) * DTYPE_BYTES[c.operand_dtype]
    before = np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), nbytes]))
    transferred = before[c.operand_begin[index + 1]] - before[c.operand_begin[index]]
    operations, constant_bytes = np.zeros((2, len(program.attrs)), dtype=np.int64)
    for entry in np.unique(c.attrs[index]).tolist():
        named = dict(program.attrs[entry])
        operations[entry] = named.get("operations", 0)
        constant_bytes[entry] = named.get("constant_bytes", 0)
    attrs = c.attrs[index]
    return HostWork(index, transferred + constant_bytes[attrs], operations[attrs])
