"""Tensors that stay in SRAM are seen as whole as those that are stored."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgefusion.compiler.lowering.lower import lower, stripes
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program
from edgefusion.runtime.store_watch import StoreWatch
from tests.fp16_reference import draw, half_network
from tests.group_cases import ChainBuilder, heavy_tail
from tests.grouped_cases import MACHINE, conv_chain, norm_chain


def gated_chain() -> Network:
    """A product, the gated unit that reads it, and another product."""
    c = ChainBuilder()
    h = c.glu(c.linear(c.input(1, 96, 32), 256))
    return c.build(c.linear(h, 32))


HALVES = {
    "chain": conv_chain(24, 16, 16),
    "norms": norm_chain(48, 16, 16),
    "gated": gated_chain(),
    "heavy": heavy_tail(),
}
HALVES = {name: half_network(network) for name, network in HALVES.items()}
BETWEEN = {
    "chain": ("a", "b", "c", "y"),
    "norms": ("a", "n", "y"),
    "gated": ("t1", "t2", "t3"),
    "heavy": ("t1", "t2", "t3"),
}
DONE_BY = {"glu2": "matmul1"}
"""The op of the program that does another's work as well."""


def machine_of(sram_kib: int, rate: float) -> Machine:
    return MACHINE.with_values(sram_bytes=sram_kib * 1024, dma_bandwidth_bytes_per_s=rate)


def seen(
    network: Network,
    machine: Machine,
    schedule: str,
    references: Mapping[str, Array],
    *,
    replace: bool = False,
) -> tuple[Program, dict[str, tuple[str, Array]]]:
    """By tensor, the op that made it, and its values."""
    program = lower(network, machine, schedule_named(schedule)).program
    inputs, constants = draw(network)
    found: dict[str, tuple[str, Array]] = {}

    def whole(op: str, record: object, values: Array) -> None:
        name = program.tensors[program.tensors.index(record)].name  # type: ignore[arg-type]
        assert name not in found, "once is enough"
        found[name] = op, values.copy()

    watch = StoreWatch(
        program,
        references,
        whole,
        replace=replace,
        stripes=stripes(program, network, machine, schedule_named(schedule)),
    )
    Executor(program, machine, constants).run(inputs, observe=watch)
    return program, found


@pytest.mark.parametrize(
    ("case", "sram_kib", "rate", "groups"),
    [
        ("chain", 20, 2e9, "conv1 silu conv2 sum"),  # all roll, with halo
        ("chain", 20, 68e9, "conv1, silu conv2, sum"),  # one rolls, one stays whole
        ("chain", 64, 68e9, "conv1, silu, conv2, sum"),  # all stay whole
        ("norms", 28, 2e9, "conv1:statistics, conv1 norm conv2"),
        ("norms", 16, 2e9, "conv1, norm conv2"),
        ("gated", 24, 2e9, "matmul1, matmul3"),  # by columns too, its result to DRAM
        ("gated", 64, 2e9, "matmul1, matmul3"),  # the result stays whole
        ("heavy", 192, 2e9, "conv1, group_norm2 conv3"),  # the norm runs for each sweep
    ],
)
def test_values_in_sram_are_those_that_others_store(
    case: str, sram_kib: int, rate: float, groups: str
) -> None:
    network, machine = HALVES[case], machine_of(sram_kib, rate)
    names = BETWEEN[case]
    nothing = {name: np.zeros(network.tensor(name).shape, np.float32) for name in names}
    _, stored = seen(network, machine, "mlt", nothing)
    program, found = seen(network, machine, "pipelined", nothing)
    inside = [[r.name for r in program.ops if r.group == g] for g in range(len(program.groups))]
    assert ", ".join(map(" ".join, inside)) == groups, "choose another size"
    assert any(t.stays_in_sram for t in program.tensors)
    assert set(found) == set(stored) == set(names)
    for name in names:
        maker = stored[name][0]
        assert found[name][0] == DONE_BY.get(maker, maker), "the op that made it"
        np.testing.assert_array_equal(found[name][1], stored[name][1])


@pytest.mark.parametrize(
    ("case", "sram_kib", "rate"),
    [
        ("chain", 20, 2e9),
        ("chain", 20, 68e9),
        ("gated", 24, 2e9),
        ("gated", 64, 2e9),
    ],
)
def test_every_op_reads_what_replaced_them(case: str, sram_kib: int, rate: float) -> None:
    network, machine = HALVES[case], machine_of(sram_kib, rate)
    random = np.random.default_rng(0)
    given = {n: random.normal(size=network.tensor(n).shape) for n in BETWEEN[case]}
    _, stored = seen(network, machine, "mlt", given, replace=True)
    _, found = seen(network, machine, "pipelined", given, replace=True)
    for name in BETWEEN[case]:
        np.testing.assert_array_equal(found[name][1], stored[name][1])
