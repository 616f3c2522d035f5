"""The executor refuses what is wrong with programs, constants and inputs, and says where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.isa import Opcode, Role, Space
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.program import BufferRecord, Program
from edgefusion.runtime.store_watch import StoreWatch
from edgefusion.runtime.target import load_target
from tests.fp16_reference import draw, evaluate, half_network
from tests.lowering_cases import conv_case, matmul_case, simple_case
from tests.program_faults import (
    edited,
    indices,
    source_moved,
    target_moved,
    truncated,
    unordered,
    with_buffers,
)

SMALL = replace(load_target("exynos2400").machine, sram_bytes=64 * 1024)
MATMUL, CONV = half_network(matmul_case()), half_network(conv_case())
HOST = half_network(simple_case("host"))


def compiled(network: Network = MATMUL, schedule: str = "mlt") -> Program:
    return lower(network, SMALL, schedule_named(schedule)).program


def result(program: Program, network: Network = MATMUL, *, checked: bool = True) -> Array:
    inputs, constants = draw(network)
    return Executor(program, SMALL, constants, checked=checked).run(inputs).outputs["y"]


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let programs past the verifier, so that the executor's own watch is on trial."""
    monkeypatch.setattr("edgefusion.runtime.executor.verify_program", lambda program, machine: None)


# Faults that the verifier finds before anything runs


def test_the_verifier_catches_an_sram_address_outside_its_buffer() -> None:
    program = compiled()
    load = indices(program, Opcode.LOAD, "x")[0]
    with pytest.raises(InputError, match=rf"instruction {load} \(load of linear.*live buffer"):
        result(edited(program, {load: target_moved(64)}))


def test_the_verifier_catches_a_missing_dependency() -> None:
    program = compiled(schedule="pipelined")
    product = indices(program, Opcode.MATMUL)[1]
    with pytest.raises(InputError, match=rf"instruction {product} \(matmul.*no order between"):
        result(edited(program, {product: unordered}))


def test_the_verifier_catches_overlapping_buffers() -> None:
    program = compiled()
    x = next(b for b in program.buffers if b.name == "linear:x")

    def change(b: BufferRecord) -> BufferRecord:
        return replace(b, address=x.address) if b.name == "linear:w" else b

    with pytest.raises(InputError, match="expected live buffers apart"):
        result(with_buffers(program, change))


# Faults of values, which only execution shows


@pytest.mark.usefixtures("unverified")
def test_an_operand_beyond_the_memory_is_refused_without_checks_too() -> None:
    program = edited(compiled(), {1: target_moved(SMALL.sram_bytes)})
    for checked in (True, False):
        with pytest.raises(InputError, match=r"instruction 1 \(load of linear.* within the 65536"):
            result(program, checked=checked)


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("which", [0, 2])
def test_a_tile_at_the_wrong_address_is_caught_by_its_reader(which: int) -> None:
    program = compiled()
    load = indices(program, Opcode.LOAD, "x")[which]
    reader = next(i for i in indices(program, Opcode.MATMUL) if i > load)
    with pytest.raises(InputError, match=rf"instruction {reader} \(matmul of linear, from onnx"):
        result(edited(program, {load: target_moved(64)}))


@pytest.mark.usefixtures("unverified")
def test_a_read_at_the_wrong_address_is_caught() -> None:
    program = compiled()
    product = indices(program, Opcode.MATMUL)[0]
    with pytest.raises(InputError, match=rf"instruction {product} \(matmul.*another tensor"):
        result(edited(program, {product: source_moved(64)}))


@pytest.mark.usefixtures("unverified")
def test_overlapping_buffers_are_caught_by_the_reader_of_what_was_overwritten() -> None:
    """Weights and x in one place: the weights' owner finds x there."""
    program = compiled()
    x = next(b for b in program.buffers if b.name == "linear:x")
    w = next(b for b in program.buffers if b.name == "linear:w")
    loads = indices(program, Opcode.LOAD, "x")
    with pytest.raises(InputError, match=r"instruction \d+ \(matmul of linear"):
        result(edited(program, {i: target_moved(w.address - x.address) for i in loads}))


@pytest.mark.parametrize("schedule", ["serial", "mlt", "pipelined"])
def test_a_lost_tail_tile_leaves_the_output_incomplete(schedule: str) -> None:
    program = compiled(schedule=schedule)
    *_, before, last = indices(program, Opcode.STORE)
    gap = (
        program.instruction(last).outputs[0].address
        - program.instruction(before).outputs[0].address
    )
    with pytest.raises(InputError, match="output 'y' is incomplete"):
        result(edited(program, {last: target_moved(-gap)}))


@pytest.mark.parametrize("network", [MATMUL, CONV], ids=["matmul", "conv"])
@pytest.mark.parametrize("schedule", ["serial", "mlt", "pipelined"])
@pytest.mark.parametrize("which", [0, 1, 3])
def test_a_truncated_transfer_is_caught_in_every_turn_of_a_buffer(
    network: Network, schedule: str, which: int
) -> None:
    """The first time the rest was never written; later it is what the turn before left there."""
    program = compiled(network, schedule)
    load = indices(program, Opcode.LOAD, "x")[which]
    # A loop keeps the last lines of a stripe for the next one before it multiplies.
    first = "matmul" if network is MATMUL else "copy" if schedule == "pipelined" else "conv2d"
    with pytest.raises(InputError, match=rf"instruction \d+ \({first} of .*outdated"):
        result(edited(program, {load: truncated}), network)


def test_a_load_of_the_wrong_tile_shows_in_the_values() -> None:
    """Every access is legal, so only a comparison of values finds it."""
    program = compiled()
    load = indices(program, Opcode.LOAD, "x")[2]
    inputs, constants = draw(MATMUL)
    expected, tolerance = evaluate(MATMUL, inputs | constants)
    assert (np.abs(result(program) - expected) <= tolerance).all()
    row = program.instruction(load).inputs[0].strides[0]
    found = result(edited(program, {load: source_moved(row)}))
    assert (np.abs(found - expected) > tolerance).any()


@pytest.mark.usefixtures("unverified")
def test_unchecked_memory_reads_whatever_is_there() -> None:
    program = compiled()
    load = indices(program, Opcode.LOAD, "x")[0]
    assert result(edited(program, {load: truncated}), checked=False).shape == (1, 200, 192)


# Constants, inputs, host functions


def test_a_missing_constant_is_named() -> None:
    _, constants = draw(MATMUL)
    del constants["bias"]
    with pytest.raises(InputError, match="constant 'bias' of tensor bias is not in the bundle"):
        Executor(compiled(), SMALL, constants)


def test_constants_and_inputs_of_another_size_are_named() -> None:
    inputs, constants = draw(MATMUL)
    with pytest.raises(InputError, match=r"constant 'w': expected shape \(64, 192\), found \(3,\)"):
        Executor(compiled(), SMALL, constants | {"w": np.zeros(3, np.float32)})
    executor = Executor(compiled(), SMALL, constants)
    with pytest.raises(InputError, match=r"input 'x': expected shape \(1, 200, 64\), found \(7,\)"):
        executor.run(inputs | {"x": np.zeros(7)})
    with pytest.raises(InputError, match=r"input 'x' is missing; expected '(x|residual)', '"):
        executor.run({"residual": inputs["residual"]})


def test_host_functions_are_called_by_name_and_their_results_counted() -> None:
    program = compiled(HOST)
    inputs, constants = draw(HOST)
    executor = Executor(program, SMALL, constants, hosts={"host": lambda v: [v[0] + 1]})
    np.testing.assert_allclose(executor.run(inputs).outputs["y"], inputs["x"] + 1, rtol=1e-3)
    with pytest.raises(InputError, match=r"instruction 0 \(call.*'host' is not in the bundle"):
        Executor(program, SMALL, constants).run(inputs)
    with pytest.raises(InputError, match="expected 1 results of host, found 2"):
        Executor(program, SMALL, constants, hosts={"host": lambda v: [v[0], v[0]]}).run(inputs)


def test_an_int16_program_without_calibration_is_refused() -> None:
    network = matmul_case()
    program = lower(network, SMALL, schedule_named("mlt")).program
    shapes = {t.constant or t.name: t.shape for t in program.tensors if t.role is not Role.SPILL}
    program = replace(
        program,
        tensors=tuple(
            replace(t, constant=t.name) if t.role is Role.WEIGHT else t for t in program.tensors
        ),
    )
    constants = {name: np.ones(shape, np.int8) for name, shape in shapes.items()}
    with pytest.raises(InputError, match="calibrat"):
        Executor(program, SMALL, constants).run(draw(MATMUL)[0])


# What callers see


def test_progress_and_observation_see_every_instruction() -> None:
    program = compiled()
    inputs, constants = draw(MATMUL)
    heard: list[tuple[int, int]] = []
    seen: list[int] = []
    Executor(program, SMALL, constants).run(
        inputs,
        progress=lambda done, count: heard.append((done, count)),
        observe=lambda index, instruction, operands: seen.append(index),
    )
    assert seen == list(range(len(program)))
    assert heard[0] == (0, len(program))


def test_a_store_watch_sees_the_result_whole() -> None:
    program = compiled()
    inputs, constants = draw(MATMUL)
    found: dict[str, Array] = {}
    watch = StoreWatch(
        program,
        {"y": np.zeros((1, 200, 192))},
        lambda op, record, values: found.update({record.name: values}),
        replace=False,
    )
    run = Executor(program, SMALL, constants).run(inputs, observe=watch)
    np.testing.assert_array_equal(found["y"].astype(np.float32), run.outputs["y"])


def test_memories_are_those_of_the_program() -> None:
    assert {o.space for i in compiled().instructions() for o in i.outputs} == set(Space)
