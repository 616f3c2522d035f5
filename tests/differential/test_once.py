"""Programs whose beginning runs once a prompt: what later runs leave out, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgefusion.compiler.lowering.lower import lower, rebound
from edgefusion.compiler.network.scales import with_scales
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.groups import OnceRecord
from edgefusion.runtime.isa import Role, Space
from edgefusion.runtime.ledger import traffic_ledger
from edgefusion.runtime.measurement import bound_violations, component_latency
from edgefusion.runtime.program import Program
from edgefusion.runtime.program_parts import parts_of, runs_of
from edgefusion.runtime.program_text import parse, to_text
from edgefusion.runtime.simulator import simulate
from edgefusion.runtime.target import load_target
from edgefusion.runtime.verifier import find_violations, verify_program
from tests.group_cases import drawn_values, prompted

MACHINE = load_target("exynos2400").machine
PIPELINED = schedule_named("pipelined")


@pytest.fixture(scope="module")
def program() -> Program:
    return lower(prompted(), MACHINE, PIPELINED).program


def once_of(program: Program) -> OnceRecord:
    assert program.once is not None
    return program.once


def test_a_run_with_the_same_prompt_begins_behind_it(program: Program) -> None:
    network = prompted()
    scales, inputs, constants = drawn_values(network)
    prompt, sample = network.constant_inputs[0], network.inputs[0]
    executor = Executor(with_scales(program, scales), MACHINE, constants)
    other = {**inputs, sample: inputs[sample] + 0.5}
    executor.run(inputs)
    ran: list[int] = []
    again = executor.run(other, again=True, observe=lambda index, *_: ran.append(index)).outputs
    assert ran == list(range(once_of(program).instructions, len(program)))
    whole = executor.run(other).outputs
    assert all(np.array_equal(again[name], whole[name]) for name in whole)
    # Another prompt makes no difference to a run that leaves its part out, and one to a whole run.
    third = {**other, prompt: -inputs[prompt]}
    kept, made = executor.run(third, again=True).outputs, executor.run(third).outputs
    assert all(np.array_equal(kept[name], whole[name]) for name in whole)
    assert not any(np.array_equal(made[name], whole[name]) for name in whole)


def test_values_are_those_of_one_program_without_parts(program: Program) -> None:
    network = prompted()
    scales, inputs, constants = drawn_values(network)
    alone = lower(replace(network, constant_inputs=()), MACHINE, PIPELINED).program
    assert alone.once is None
    found, expected = (
        Executor(with_scales(each, scales), MACHINE, constants).run(inputs).outputs
        for each in (program, alone)
    )
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_parts_are_programs_that_add_up(program: Program) -> None:
    first, second = parts_of(program)
    assert (first.component, second.component) == ("case_prompt", "case")
    assert len(first) + len(second) == len(program)
    assert (*first.ops, *(op.name for op in second.ops))[: len(first.ops)] == first.ops
    assert len(first.ops) + len(second.ops) == len(program.ops)
    total = 0
    for part in (first, second):
        verify_program(part, MACHINE)
        latency = component_latency(part, MACHINE)
        assert not bound_violations(latency)
        assert latency.fused_bound_ps > 0
        assert [group.index for group in latency.groups] == list(range(len(part.groups)))
        total += latency.latency_ps
    # Together they may overlap at the border, and never take longer.
    assert simulate(program, MACHINE).total_ps <= total
    ledgers = [traffic_ledger(part, MACHINE).bytes_by_cause() for part in (first, second)]
    whole = traffic_ledger(program, MACHINE).bytes_by_cause()
    causes = {cause for ledger in ledgers for cause in ledger}
    assert {c: sum(ledger.get(c, 0) for ledger in ledgers) for c in causes} == whole
    assert [n for _, n in runs_of(program, 4)] == [1, 4]
    assert [n for _, n in runs_of(program, 8, prompts=2)] == [8, 8]  # they take turns


def test_bounds_on_another_machine_are_those_of_both_parts(program: Program) -> None:
    assert rebound(program, prompted(), MACHINE, PIPELINED) == program
    slow = replace(MACHINE, dma_bandwidth_bytes_per_s=1e9)
    again = rebound(program, prompted(), slow, PIPELINED)
    assert once_of(again).fused.dma_ps > once_of(program).fused.dma_ps
    assert again.fused.dma_ps > program.fused.dma_ps


def test_text_and_file_keep_where_it_begins_again(program: Program) -> None:
    assert parse(to_text(program)) == program


@pytest.mark.parametrize("schedule", ["serial", "mlt"])
def test_the_papers_schedules_compute_everything_at_every_step(schedule: str) -> None:
    assert lower(prompted(), MACHINE, schedule_named(schedule)).program.once is None


def test_a_later_write_to_what_was_made_once_is_refused(program: Program) -> None:
    keys = next(t for t in program.tensors if t.name == program.tensors[_crossing(program)].name)
    c = program.columns
    # The last store of the program goes where the keys lie.
    row = int(np.flatnonzero((c.operand_space == Space.DRAM) & (c.operand_is_output == 1))[-1])
    address = c.operand_address.copy()
    address[row] = keys.address
    output = int(c.operand_tensor[row])
    tensors = list(program.tensors)
    tensors[output] = replace(tensors[output], address=keys.address)
    spoilt = replace(program, columns=replace(c, operand_address=address), tensors=tuple(tensors))
    assert "once" in {v.rule for v in find_violations(spoilt, MACHINE)}


def _crossing(program: Program) -> int:
    """A tensor that is stored by the first part."""
    first, _ = parts_of(program)
    c = first.columns
    rows = (c.operand_space == Space.DRAM) & (c.operand_is_output == 1)
    found = int(c.operand_tensor[np.flatnonzero(rows)[-1]])
    assert program.tensors[found].role is Role.ACTIVATION
    return found


@pytest.mark.parametrize(
    "change",
    [{"instructions": 0}, {"instructions": 10**6}, {"ops": 1}, {"groups": 0}, {"instructions": 1}],
)
def test_a_border_elsewhere_is_refused(program: Program, change: dict[str, int]) -> None:
    moved = replace(program, once=replace(once_of(program), **change))
    assert "once" in {v.rule for v in find_violations(moved, MACHINE)}
