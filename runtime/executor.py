"""Runs a program on values: instruction by instruction, on simulated SRAM and DRAM.

Data moves between the memories by DMA instructions alone; every other instruction reads and writes
through its operands' addresses and strides. What an instruction computes is up to the kernels
(``runtime.kernels``, specified in ``docs/arithmetic.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import EdgeFusionError, InputError
from edgefusion.runtime.isa import Cause, DType, Opcode, Role, Space
from edgefusion.runtime.kernels.contract import Kernel, Operands
from edgefusion.runtime.kernels.table import KERNELS
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import BufferRecord, Instruction, Operand, Program, TensorRecord
from edgefusion.runtime.simulated_memory import SimulatedMemory

Values = Mapping[str, npt.NDArray[Any]]
HostFunction = Callable[[Sequence[npt.NDArray[Any]]], Sequence[npt.NDArray[Any]]]
Progress = Callable[[int, int], None]
Observe = Callable[[int, Instruction, SimulatedMemory], None]


@dataclass(frozen=True, slots=True)
class Execution:
    """Results as real numbers by tensor name, and the bytes that DMA moved, by cause."""

    outputs: dict[str, npt.NDArray[Any]]
    moved_bytes: dict[Cause, int]


class Executor:
    """A program with its constants, ready to run.

    ``constants`` are the bundle's weights by key, ``hosts`` the host functions by name. ``checked``
    poisons memory and refuses reads of what nothing wrote.
    """

    def __init__(
        self,
        program: Program,
        machine: Machine,
        constants: Values,
        *,
        hosts: Mapping[str, HostFunction] | None = None,
        checked: bool = True,
    ) -> None:
        self._program, self._hosts = program, dict(hosts or {})
        self._memory = SimulatedMemory(machine.sram_bytes, program.dram_bytes, checked=checked)
        self._instructions = tuple(program.instructions())
        self._births: dict[int, list[BufferRecord]] = {}
        for record in program.buffers:
            self._births.setdefault(record.first, []).append(record)
        self._load_constants(constants)

    def run(
        self,
        inputs: Values,
        *,
        progress: Progress | None = None,
        observe: Observe | None = None,
    ) -> Execution:
        """Execute once.

        ``inputs`` are real numbers (or integers, for integer inputs) by tensor name, as are the
        results. ``observe`` is called after each instruction. Raises InputError for missing or
        ill-shaped inputs and for every fault of the program, naming the instruction.
        """
        self._load_inputs(inputs)
        moved = dict.fromkeys(Cause, 0)
        count = len(self._instructions)
        for index, instruction in enumerate(self._instructions):
            if progress is not None and index % 64 == 0:
                progress(index, count)
            for record in self._births.get(index, ()):
                self._memory.poison(record.space, record.address, record.nbytes)
            self._execute(index, instruction, moved)
            if observe is not None:
                observe(index, instruction, self._memory)
        outputs = {t.name: self._read(t) for t in self._program.tensors if t.role is Role.OUTPUT}
        return Execution(outputs, {c: n for c, n in moved.items() if n})

    def _execute(self, index: int, i: Instruction, moved: dict[Cause, int]) -> None:
        where = f"instruction {index} ({i.opcode.name.lower()} of {self._program.ops[i.op].name})"
        for operand in i.inputs:
            self._memory.expect_written(operand, where)
        try:
            outputs = tuple(self._memory.view(o) for o in i.outputs)
            inputs = tuple(self._memory.view(o) for o in i.inputs)
            if i.opcode in (Opcode.LOAD, Opcode.STORE):
                np.copyto(outputs[0], inputs[0])
                self._count(i, moved)
            elif i.opcode is Opcode.CALL:
                self._call(i, outputs, inputs)
            else:
                scales = [self._scale(o.tensor, o.dtype) for o in (*i.outputs, *i.inputs)]
                split = len(outputs)
                operands = Operands(outputs, inputs, tuple(scales[:split]), tuple(scales[split:]))
                self._kernel(i, operands)(operands, dict(i.attrs))
        except EdgeFusionError as error:
            raise type(error)(f"{where}: {error}") from error
        for operand in i.outputs:
            self._memory.mark_written(operand)

    def _kernel(self, i: Instruction, operands: Operands) -> Kernel:
        family = "int" if operands.is_integer else "fp16"
        kernel = KERNELS.get((i.opcode, family))
        if kernel is None:
            raise InputError(f"no kernel computes {i.opcode.name} on {i.inputs[0].dtype.name}")
        return kernel

    def _count(self, i: Instruction, moved: dict[Cause, int]) -> None:
        operand = i.inputs[0]
        nbytes = operand.elements * operand.dtype.nbytes
        again = 0 if i.cause is Cause.REREAD else int(dict(i.attrs).get("reread_bytes", 0))
        moved[i.cause] += nbytes - again
        moved[Cause.REREAD] += again

    def _call(
        self,
        i: Instruction,
        outputs: Sequence[npt.NDArray[Any]],
        inputs: Sequence[npt.NDArray[Any]],
    ) -> None:
        """A host function sees real numbers; they are rounded to the tensors' types here."""
        name = str(dict(i.attrs)["function"])
        if name not in self._hosts:
            raise InputError(f"host function {name!r} is not in the bundle")
        real = [
            to_real(array, self._scale(o.tensor, o.dtype))
            for array, o in zip(inputs, i.inputs, strict=True)
        ]
        for o, target, value in zip(i.outputs, outputs, self._hosts[name](real), strict=True):
            target[...] = from_real(
                np.reshape(value, o.shape), o.dtype, self._scale(o.tensor, o.dtype)
            )

    def _scale(self, tensor: int, dtype: DType) -> float:
        return self._program.tensors[tensor].scale if dtype is DType.INT16 else 0.0

    def _load_constants(self, constants: Values) -> None:
        bias_scales = _bias_scales(self._instructions, self._program.tensors, constants)
        for index, record in enumerate(self._program.tensors):
            if record.role not in (Role.WEIGHT, Role.TABLE):
                continue
            if record.constant not in constants:
                raise InputError(
                    f"constant {record.constant!r} of tensor {record.name} is not in the bundle"
                )
            values = constants[record.constant].reshape(record.shape)
            if record.dtype is DType.INT64 and index in bias_scales:
                values = np.rint(values.astype(np.float64) / bias_scales[index]).astype(np.int64)
            else:
                values = from_real(values, record.dtype, record.scale)
            self._memory.write(record.address, values)

    def _load_inputs(self, inputs: Values) -> None:
        for record in self._program.tensors:
            if record.role is not Role.INPUT:
                continue
            if record.name not in inputs:
                expected = [t.name for t in self._program.tensors if t.role is Role.INPUT]
                raise InputError(f"input {record.name!r} is missing; expected {expected}")
            value = np.asarray(inputs[record.name])
            if value.size != int(np.prod(record.shape, dtype=np.int64)):
                raise InputError(
                    f"input {record.name!r}: expected shape {record.shape}, found {value.shape}"
                )
            values = from_real(value.reshape(record.shape), record.dtype, record.scale)
            self._memory.write(record.address, values)

    def _read(self, record: TensorRecord) -> npt.NDArray[Any]:
        strides = np.empty(record.shape, record.dtype.numpy).strides
        operand = Operand(0, Space.DRAM, record.address, record.dtype, record.shape, strides)
        self._memory.expect_written(operand, f"output {record.name}")
        return to_real(self._memory.view(operand), record.scale)


def to_real(values: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
    """Stored values as real numbers: INT16 steps of ``scale`` and FP16 as FP32, others as is."""
    if values.dtype == np.int16:
        real: npt.NDArray[Any] = (values.astype(np.float64) * scale).astype(np.float32)
        return real
    return values.astype(np.float32) if values.dtype == np.float16 else values.copy()


def from_real(values: npt.NDArray[Any], dtype: DType, scale: float) -> npt.NDArray[Any]:
    """Real numbers as stored: INT16 rounded to nearest even steps of ``scale`` and saturated.

    Raises InputError for an INT16 tensor that has no scale yet, and for NaN.
    """
    if dtype is not DType.INT16 or values.dtype == np.int16:
        return values.astype(dtype.numpy, copy=False)
    if scale <= 0.0:
        raise InputError("an INT16 tensor has no scale; calibrate the bundle first")
    steps = np.rint(values.astype(np.float64) / scale)
    if np.isnan(steps).any():
        raise InputError("found NaN among the values to quantize")
    return np.clip(steps, -32768, 32767).astype(np.int16)


def _bias_scales(
    instructions: Sequence[Instruction], tensors: Sequence[TensorRecord], constants: Values
) -> dict[int, npt.NDArray[np.float64]]:
    """The step of each bias tensor: input scale times weight scale, one a channel."""
    found: dict[int, npt.NDArray[np.float64]] = {}
    for i in instructions:
        if i.opcode in (Opcode.CONV2D, Opcode.MATMUL) and dict(i.attrs).get("bias"):
            x, _, bias, *scale = i.inputs
            if bias.dtype is DType.INT64:
                weight_scale = constants[tensors[scale[0].tensor].constant].astype(np.float64)
                found[bias.tensor] = tensors[x.tensor].scale * weight_scale.reshape(-1)
    return found
