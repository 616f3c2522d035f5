"""A compiled program runs once before it is handed over, so that a bundle that compiles also runs.

What is small is executed on random values, host functions in ONNX Runtime (which they were compared
with); of what is large every kind of instruction is asked for its kernel, and every output for its
memory. Nothing is known here of what the values should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import EdgeFusionError, InputError, UnsupportedOpError
from edgefusion.runtime.isa import EngineKind, Role
from edgefusion.runtime.program_columns import OperandRows, instruction_name
from edgefusion.runtime.work import derive_work

if TYPE_CHECKING:
    from edgefusion.compiler.graph.graph import Graph
    from edgefusion.runtime.host_signature import HostFunction, HostManifest
    from edgefusion.runtime.machine import Machine
    from edgefusion.runtime.program import Program
    from edgefusion.toolchain.compiling.hosting import HostFiles

Array = npt.NDArray[Any]

SMALL_S = 0.2
"""Executed is what should take no longer, by the three figures below (measured on one core)."""
SECONDS_PER_MAC = 1e-10
SECONDS_PER_ELEMENT = 2e-8
SECONDS_PER_INSTRUCTION = 2.5e-4


@dataclass(frozen=True, slots=True)
class DryRun:
    """What went in, and what the executor made of it: real numbers by tensor name."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def dry_component(
    graph: Graph,
    program: Program,
    machine: Machine,
    host: HostFiles,
    *,
    timesteps: Sequence[float] = (),
    has_values: bool = True,
) -> DryRun | None:
    """Run ``program``, which is ``graph`` compiled, once; None if it is large or, without scales,
    not ``has_values``. ``timesteps`` are those that it has tables for.

    Raises UnsupportedOpError where it does not run, for the reason told.
    """
    try:
        check_kernels(program)
        check_outputs(program, {tensor.name: tensor.shape for tensor in graph.outputs})
        if not has_values or executing_s(program) > SMALL_S:
            return None
        constants = {tensor.name: tensor.values() for tensor in graph.constants}
        return _tried(graph, program, machine, host, constants, timesteps)
    except EdgeFusionError as error:
        raise UnsupportedOpError(
            f"{program.component} compiles, but does not run: {error}. No bundle was written; "
            "replace the op named by others, or report it"
        ) from error


def _tried(
    graph: Graph,
    program: Program,
    machine: Machine,
    host: HostFiles,
    constants: Mapping[str, Array],
    timesteps: Sequence[float],
) -> DryRun:
    """Once on the first random inputs that the host functions take; all of them refuse some, as an
    integer quotient does a divisor of 0."""
    from edgefusion.runtime.host import load_host

    def member(name: str) -> bytes:
        return host.files[f"{program.component}/{name}"].read_bytes()

    hosts = load_host(host.manifest, member, constants, "ort").functions
    problem: InputError | None = None
    for inputs in random_inputs(graph, host.manifest, timesteps):
        try:
            outputs = dry_run(program, machine, hosts, constants, inputs)
        except InputError as error:
            problem = problem or error
            if not hosts:
                break
        else:
            return DryRun(inputs, outputs)
    assert problem is not None
    raise problem


def dry_run(
    program: Program,
    machine: Machine,
    hosts: Mapping[str, HostFunction],
    constants: Mapping[str, Array],
    inputs: Mapping[str, Array],
) -> dict[str, Array]:
    """The outputs of ``program``, executed once without checks: the verifier has passed it."""
    from edgefusion.runtime.executor import Executor

    with np.errstate(all="ignore"):
        return Executor(program, machine, constants, hosts=hosts, checked=False).run(inputs).outputs


def random_inputs(
    graph: Graph, manifest: HostManifest, timesteps: Sequence[float] = ()
) -> list[dict[str, Array]]:
    """Several inputs for ``graph``; those that a host function takes for indices are indices."""
    import onnx

    from edgefusion.compiler.host.draws import draws
    from edgefusion.runtime.host_signature import HostTensor

    known = {tensor.name: tensor for f in manifest.functions for tensor in f.inputs}
    tensors = [
        known.get(t.name) or HostTensor(t.name, t.shape, np.dtype(t.dtype).name)
        for t in graph.inputs
    ]
    found = list(draws(tensors, onnx.ModelProto()))
    for inputs in found:
        if timesteps and "timestep" in inputs:
            inputs["timestep"] = np.full_like(inputs["timestep"], timesteps[0])
    return found


def executing_s(program: Program) -> float:
    """About how long the executor takes for ``program``."""
    work = derive_work(program)
    return (
        SECONDS_PER_MAC * float(work.tensor.macs.sum() + work.host.operations.sum())
        + SECONDS_PER_ELEMENT * float(work.vector.elements.sum())
        + SECONDS_PER_INSTRUCTION * len(program)
    )


def check_kernels(program: Program) -> None:
    """Raises InputError for an instruction that no kernel computes."""
    from edgefusion.runtime.executor import kernel_of

    c, rows = program.columns, OperandRows(program)
    index = np.flatnonzero((c.engine == EngineKind.TENSOR) | (c.engine == EngineKind.VECTOR))
    kinds = np.stack(
        [
            c.opcode[index].astype(np.int64),
            c.operand_dtype[rows.first_input[index]],
            c.operand_dtype[rows.first_output[index]],
        ]
    )
    _, first = np.unique(kinds, axis=1, return_index=True)
    for at in index[first].tolist():
        try:
            kernel_of(program.instruction(at))
        except InputError as error:
            raise InputError(f"{instruction_name(program, at)}: {error}") from error


def check_outputs(program: Program, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises InputError for an output that the program has no memory for, or of another size."""
    delivered = {t.name: t for t in program.tensors if t.role in (Role.OUTPUT, Role.INPUT)}
    for name, shape in shapes.items():
        if name not in delivered:
            raise InputError(f"nothing makes the output '{name}'")
        if prod(delivered[name].shape) != prod(shape):
            raise InputError(
                f"the output '{name}' has shape {list(delivered[name].shape)} in memory; expected "
                f"{list(shape)}"
            )
