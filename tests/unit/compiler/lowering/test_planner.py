"""Plans where it is plain what is best."""

from __future__ import annotations

import pytest

from edgefusion.compiler.lowering.answers import Answers, Question
from edgefusion.compiler.lowering.beam import Reached
from edgefusion.compiler.lowering.group_bounds import BoundFinder
from edgefusion.compiler.lowering.group_search import Choice
from edgefusion.compiler.lowering.lower import Lowered, lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.isa import Space
from edgefusion.runtime.ledger import traffic_ledger
from edgefusion.runtime.simulator import simulate
from edgefusion.runtime.target import load_target
from tests.group_cases import CASES, KIB, ChainBuilder, ways, wide_tail

MACHINE = load_target("exynos2400").machine


def planned(
    network: Network, sram_kib: int, bandwidth: float, schedule: str = "pipelined"
) -> Lowered:
    machine = MACHINE.with_values(sram_bytes=sram_kib * KIB, dma_bandwidth_bytes_per_s=bandwidth)
    return lower(network, machine, schedule_named(schedule))


def moved(lowered: Lowered) -> int:
    return sum(row.bytes for row in traffic_ledger(lowered.program, MACHINE).by("cause"))


def members(lowered: Lowered) -> list[list[str]]:
    return [[member.record for member in group.members] for group in lowered.plan.groups]


def test_a_map_beyond_sram_rolls_from_one_convolution_into_the_next() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 64, 32, 4), 16, function="silu")  # 64 KiB
    network = c.build(c.conv(x, 4))
    lowered = planned(network, 32, 2e9)
    assert members(lowered) == [["conv1", "conv2"]]
    (group,) = lowered.plan.groups
    assert group.loop.rolling == {x}
    assert lowered.plan.never_in_dram == {x}
    apart = planned(network, 32, 2e9, "mlt")
    assert moved(apart) - moved(lowered) >= 2 * 64 * KIB


def test_statistics_are_the_border_and_the_norm_rolls_into_its_reader() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 64, 32, 16), 16, stats=True)
    network = c.build(c.conv(c.group_norm(x), 4))
    assert members(planned(network, 40, 40e9)) == [["conv1"], ["group_norm2", "conv3"]]


def test_where_dram_is_slow_a_map_is_computed_twice_rather_than_stored() -> None:
    slow, fast = (planned(wide_tail(), 20, bandwidth) for bandwidth in (5e8, 90e9))
    assert "twice" in ways(slow)
    assert "twice" not in ways(fast)
    twice = [group for group in members(slow) if any(":statistics" in name for name in group)]
    assert len(twice) == 1
    macs = [sum(op.macs for op in made.program.ops) for made in (slow, fast)]
    assert macs[0] > macs[1]


def test_a_small_tensor_stays_until_its_last_reader_and_not_longer() -> None:
    c = ChainBuilder()
    x = c.linear(c.input(1, 32, 32), 32)
    h = c.linear(c.linear(c.layer_norm(x), 32), 32, add=x)
    network = c.build(c.linear(h, 16))
    lowered = planned(network, 6 * 1024, 10e9)
    (residency,) = (r for r in lowered.plan.residencies if r.root == x)
    records = members(lowered)
    assert residency.alone
    assert any(name.startswith("matmul1") for name in records[residency.first])
    assert "matmul4" in records[residency.last]
    ledger = traffic_ledger(lowered.program, MACHINE)
    in_dram = {row.name for row in ledger.by("tensor") if row.bytes}
    assert not {name for name in in_dram if name.startswith("t")} - set(network.outputs)


def test_a_result_takes_the_place_of_what_is_read_last() -> None:
    c = ChainBuilder()
    x = c.linear(c.input(1, 128, 32), 32)  # 8 KiB
    normed = c.layer_norm(x)
    other = c.linear(normed, 32)
    sum_ = c.linear(c.layer_norm(other), 32, add=normed)
    network = c.build(c.linear(sum_, 16))
    lowered = planned(network, 6 * 1024, 10e9)
    over = {r.root: r.over for r in lowered.plan.residencies}
    assert over[normed] == x
    assert over[sum_] == normed
    assert [x, normed, sum_] in [[r.root for r in place] for place in lowered.plan.places]
    program = lowered.program
    number = {tensor.name: index for index, tensor in enumerate(program.tensors)}
    begin = {number[name]: MACHINE.dram_bytes for name in (x, normed, sum_)}
    for i in (program.instruction(index) for index in range(len(program))):
        for o in i.outputs:
            if o.tensor in begin and o.space is Space.SRAM:
                begin[o.tensor] = min(begin[o.tensor], o.address)
    assert len(set(begin.values())) == 1


def test_nothing_takes_the_place_of_what_is_read_in_other_ways() -> None:
    c = ChainBuilder()
    x = c.linear(c.input(1, 128, 32), 32)
    y = c.linear(x, 32, add=x)  # all columns of x make one of y
    lowered = planned(c.build(c.linear(y, 16)), 48, 10e9)
    assert {r.root: r.over for r in lowered.plan.residencies} == {x: "", y: ""}


def test_outputs_are_stored_though_they_are_read_from_sram() -> None:
    c = ChainBuilder()
    x = c.linear(c.input(1, 32, 32), 32)
    network = c.build(x, c.linear(x, 16))
    lowered = planned(network, 6 * 1024, 5e8)
    rows = {row.name: row.bytes for row in traffic_ledger(lowered.program, MACHINE).by("tensor")}
    assert "near" in ways(lowered)
    assert rows[x] == 32 * 32 * 2  # written once, never read back


def test_more_traffic_saved_is_time_saved_where_dram_is_slow() -> None:
    network = wide_tail()
    machine = MACHINE.with_values(sram_bytes=24 * KIB, dma_bandwidth_bytes_per_s=1e9)
    mlt, pipelined = (lower(network, machine, schedule_named(n)) for n in ("mlt", "pipelined"))
    assert moved(pipelined) < moved(mlt) / 2
    times = [simulate(made.program, machine).total_ps for made in (mlt, pipelined)]
    assert times[1] < times[0] / 2


def least_parts(
    network: Network, sram_kib: int, monkeypatch: pytest.MonkeyPatch
) -> dict[tuple[str, ...], float]:
    """By ops of all groups that are tried, how much of their cost is known without a search."""
    found: dict[tuple[str, ...], float] = {}
    search = Answers._search

    def watched(self: Answers, question: Question) -> Choice | None:
        choice = search(self, question)
        if choice is not None:
            ops = tuple(op.name for op in question.ops)
            part = self.least_cost(question) / choice.cost
            found[ops] = max(part, found.get(ops, 0.0))
        return choice

    monkeypatch.setattr(Answers, "_search", watched)
    monkeypatch.setattr(Reached, "may_keep", lambda *_: True)  # every question is searched
    planned(network, sram_kib, 0.5e9)  # little time is lost where the bus is that slow
    return found


@pytest.mark.parametrize(("case", "sram_kib"), [("residual", 16), ("transformer", 40)])
def test_no_answer_costs_less_than_what_it_costs_at_least(
    case: str, sram_kib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = least_parts(CASES[case](), sram_kib, monkeypatch)
    assert 0.8 < max(parts.values()) <= 1


def test_weights_that_do_not_fit_cost_a_loop_at_least_another_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    c = ChainBuilder()
    network = c.build(c.linear(c.linear(c.input(1, 512, 512), 512), 64))
    parts = least_parts(network, 250, monkeypatch)  # the first weights alone have 256 KiB
    assert 0.3 < parts["matmul1", "matmul2"] <= 1
    monkeypatch.setattr(BoundFinder, "weights_again", lambda *_: 0)
    without = least_parts(network, 250, monkeypatch)
    assert without["matmul1", "matmul2"] < parts["matmul1", "matmul2"] / 1.5


@pytest.mark.parametrize("case", ["residual", "heavy tail"])
def test_what_is_not_searched_changes_no_plan(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spared = planned(CASES[case](), 48, 17e9)
    monkeypatch.setattr(Reached, "may_keep", lambda *_: True)
    assert planned(CASES[case](), 48, 17e9).plan == spared.plan


def test_what_is_stored_as_well_gives_way_late() -> None:
    c = ChainBuilder()
    x = c.linear(c.input(1, 64, 32), 32)
    h = c.linear(c.linear(c.linear(c.linear(x, 32), 32), 32), 32)
    lowered = planned(c.build(x, h), 96, 1e9)
    program = lowered.program
    (near,) = (r for r in program.residents if not r.alone)
    assert program.tensors[near.tensor].name == x
    assert near.last < len(program.groups) - 2
    group_of = [program.ops[op].group for op in program.columns.op]
    (home,) = (b for b in program.buffers if b.name == x and b.space is Space.SRAM)
    for b in program.buffers:
        begun = group_of[b.first]
        if b.space is Space.SRAM and near.last < begun <= near.last + 2:
            apart = b.address + b.nbytes <= home.address or home.address + home.nbytes <= b.address
            assert apart, b.name
