"""Runs a program on values: instruction by instruction, on simulated SRAM and DRAM.

Data moves between the memories by DMA instructions alone; every other instruction reads and writes
through its operands' addresses and strides. What an instruction computes is up to the kernels
(``runtime.kernels``, specified in ``docs/arithmetic.md``).

Instructions run in program order. A checked executor verifies the program first
(``runtime.verifier``), which proves that every order the machine may choose gives the same values;
then it watches every access (``runtime.simulated_memory``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgefusion.runtime.errors import EdgeFusionError, InputError
from edgefusion.runtime.host_signature import HostFunction
from edgefusion.runtime.isa import CONSTANT_ROLES, Cause, DType, Opcode, Role, Space
from edgefusion.runtime.kernels.contract import Array, Attrs, Kernel, Operands
from edgefusion.runtime.kernels.table import KERNELS
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.opcodes import SPECIFICATIONS
from edgefusion.runtime.program import BufferRecord, Instruction, Operand, Program, TensorRecord
from edgefusion.runtime.program_columns import instruction_name
from edgefusion.runtime.simulated_memory import Place, SimulatedMemory
from edgefusion.runtime.specification import Family
from edgefusion.runtime.stored_values import bias_scales, from_real, stored_bias, to_real
from edgefusion.runtime.tensor_numbers import PLAIN, Numbers
from edgefusion.runtime.verifier import verify_program

Values = Mapping[str, Array]
Progress = Callable[[int, int], None]
Observe = Callable[[int, Instruction, Operands], None]


@dataclass(frozen=True, slots=True)
class Execution:
    """Results as real numbers by tensor name, and the bytes that DMA moved, by cause."""

    outputs: dict[str, Array]
    moved_bytes: dict[Cause, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """An instruction resolved against memory; ``kernel`` is None for DMA and host calls."""

    instruction: Instruction
    outputs: tuple[Place, ...]
    inputs: tuple[Place, ...]
    operands: Operands
    attrs: Attrs
    kernel: Kernel | None
    accumulates: bool
    births: tuple[BufferRecord, ...]


class Executor:
    """A program with its constants, ready to run, any number of times.

    ``constants`` are the bundle's weights by key (FP32 or as stored), ``hosts`` the host functions
    by name. ``checked`` verifies the program, poisons memory and refuses reads of what holds no
    value, at most a third slower. Raises InputError for a program or constants that do not fit.
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
        if checked:
            verify_program(program, machine)
        self._program, self._hosts = program, dict(hosts or {})
        self._memory = SimulatedMemory(machine.sram_bytes, program.dram_bytes, checked=checked)
        births: dict[int, list[BufferRecord]] = {}
        for record in program.buffers:
            births.setdefault(record.first, []).append(record)
        self._steps = tuple(
            self._step(index, instruction, tuple(births.get(index, ())))
            for index, instruction in enumerate(program.instructions())
        )
        self._load_constants(constants)

    def run(
        self,
        inputs: Values,
        *,
        progress: Progress | None = None,
        observe: Observe | None = None,
        again: bool = False,
    ) -> Execution:
        """Execute once; ``again``: from where the program may begin, as its constant inputs are
        those of the run before.

        ``inputs`` are real numbers (or integers, for integer inputs) by tensor name, as are the
        results. ``progress`` hears how many of how many instructions are done; ``observe`` sees
        every instruction once it has run, with views of its operands. Raises InputError for missing
        or ill-shaped inputs and for every fault of the program, naming the instruction.
        """
        for record in self._program.tensors:
            if record.role is Role.OUTPUT:
                self._memory.poison(Space.DRAM, record.address, record.nbytes)
        self._load_inputs(inputs)
        moved = dict.fromkeys(Cause, 0)
        once = self._program.once
        begin = once.instructions if again and once else 0
        for index, step in enumerate(self._steps[begin:], begin):
            if progress is not None and index % 64 == 0:
                progress(index, len(self._steps))
            try:
                self._execute(step, moved)
            except EdgeFusionError as error:
                raise type(error)(f"{instruction_name(self._program, index)}: {error}") from error
            if observe is not None:
                observe(index, step.instruction, step.operands)
        outputs = {t.name: self._read(t) for t in self._program.tensors if t.role is Role.OUTPUT}
        return Execution(outputs, {cause: n for cause, n in moved.items() if n})

    def _step(self, index: int, i: Instruction, births: tuple[BufferRecord, ...]) -> _Step:
        specification = SPECIFICATIONS[i.opcode]
        try:
            outputs = tuple(self._memory.place(o) for o in i.outputs)
            inputs = tuple(self._memory.place(o) for o in i.inputs)
            kernel = kernel_of(i) if specification.families else None
        except InputError as error:
            raise InputError(f"{instruction_name(self._program, index)}: {error}") from error
        operands = Operands(
            tuple(p.values for p in outputs),
            tuple(p.values for p in inputs),
            tuple(self._numbers(o) for o in i.outputs),
            tuple(self._numbers(o) for o in i.inputs),
        )
        attrs = specification.complete(i.attrs)
        accumulates = specification.accumulates(attrs)
        return _Step(i, outputs, inputs, operands, attrs, kernel, accumulates, births)

    def _execute(self, step: _Step, moved: dict[Cause, int]) -> None:
        for record in step.births:
            self._memory.poison(record.space, record.address, record.nbytes)
        for place in step.inputs:
            self._memory.expect_written(place)
        if step.kernel is not None:
            if step.accumulates:
                self._memory.expect_written(step.outputs[0])
            try:
                step.kernel(step.operands, step.attrs)
            except (ValueError, IndexError) as error:  # numpy's, of shapes that do not fit
                raise InputError(f"its operands do not fit each other: {error}") from error
        elif step.instruction.opcode is Opcode.CALL:
            self._call(step)
        else:
            self._transfer(step, moved)
        for place in step.outputs:
            self._memory.mark_written(place, step.inputs)

    def _transfer(self, step: _Step, moved: dict[Cause, int]) -> None:
        """Copy, and count the bytes that arrived: attribute ``reread_bytes`` of them were here."""
        (target,), (source,) = step.operands.outputs, step.operands.inputs
        np.copyto(target, source, casting="no")
        cause = step.instruction.cause
        again = 0 if cause is Cause.REREAD else int(step.attrs.get("reread_bytes", 0))
        moved[cause] += target.nbytes - again
        moved[Cause.REREAD] += again

    def _call(self, step: _Step) -> None:
        """A host function sees real numbers; they are rounded to the tensors' types here."""
        name = str(step.attrs["function"])
        if name not in self._hosts:
            raise InputError(f"host function {name!r} is not in the bundle")
        o = step.operands
        real = [to_real(v, n) for v, n in zip(o.inputs, o.input_numbers, strict=True)]
        results = self._hosts[name](real)
        if len(results) != len(o.outputs):
            raise InputError(f"expected {len(o.outputs)} results of {name}, found {len(results)}")
        for place, numbers, value in zip(step.outputs, o.output_numbers, results, strict=True):
            target = place.values
            if np.size(value) != target.size:
                raise InputError(f"expected {target.size} values of {name}, got {np.size(value)}")
            target[...] = from_real(np.reshape(value, target.shape), place.operand.dtype, numbers)

    def _numbers(self, operand: Operand) -> Numbers:
        if operand.dtype not in (DType.INT16, DType.INT64) or operand.tensor < 0:
            return PLAIN  # INT64 sums are in steps of the tensor that they add up
        return self._program.tensors[operand.tensor].numbers

    def _load_constants(self, constants: Values) -> None:
        steps = bias_scales(self._program, constants)
        for index, record in enumerate(self._program.tensors):
            if record.role not in CONSTANT_ROLES or not record.constant:  # a view names none
                continue
            if record.constant not in constants:
                raise InputError(
                    f"constant {record.constant!r} of tensor {record.name} is not in the bundle"
                )
            values = _shaped(f"constant {record.constant!r}", constants[record.constant], record)
            if record.dtype is DType.INT64 and index in steps:
                values = stored_bias(values, steps[index])
            else:
                values = from_real(values, record.dtype, record.numbers)
            self._memory.write(record.address, values)

    def _load_inputs(self, inputs: Values) -> None:
        wanted: dict[int, TensorRecord] = {}
        for record in self._program.tensors:
            if record.role is Role.INPUT:
                wanted.setdefault(record.address, record)  # the others there are views of it
        for record in wanted.values():
            if record.name not in inputs:
                names = ", ".join(repr(r.name) for r in wanted.values())
                raise InputError(f"input {record.name!r} is missing; expected {names}")
            values = _shaped(f"input {record.name!r}", np.asarray(inputs[record.name]), record)
            self._memory.write(record.address, from_real(values, record.dtype, record.numbers))

    def _read(self, record: TensorRecord) -> Array:
        strides = np.empty(record.shape, record.dtype.numpy).strides
        operand = Operand(0, Space.DRAM, record.address, record.dtype, record.shape, strides)
        place = self._memory.place(operand)
        try:
            self._memory.expect_written(place)
        except InputError as error:
            raise InputError(f"output {record.name!r} is incomplete: {error}") from error
        return to_real(place.values, record.numbers)


def _shaped(what: str, values: Array, record: TensorRecord) -> Array:
    if values.size != int(np.prod(record.shape, dtype=np.int64)):
        raise InputError(f"{what}: expected shape {record.shape}, found {values.shape}")
    return values.reshape(record.shape)


def kernel_of(i: Instruction) -> Kernel:
    """Integer activations pick the integer kernels, a float that becomes an integer its own.

    Raises InputError where none computes ``i``."""
    family = Family.FP16 if i.inputs[0].dtype in (DType.FP16, DType.FP32) else Family.INT
    if family is Family.FP16 and i.outputs[0].dtype is DType.INT16:
        family = Family.FLOAT_TO_INT
    kernel = KERNELS.get((i.opcode, family))
    if kernel is None:
        raise InputError(f"no kernel computes {i.opcode.name} on {i.inputs[0].dtype.name}")
    return kernel
