"""What the benchmark of the search says can be relied on: the space holds what the search lists,
what is left out by proof is not faster, and a poor search is told from a good one."""

from __future__ import annotations

from math import inf

import pytest

from edgefusion.benchmarks import enumeration
from edgefusion.benchmarks.enumeration import enumerate_question
from edgefusion.benchmarks.search_quality import attention_rows, questions_of, row_of, summary
from edgefusion.compiler.lowering.answers import Answers, Learnt, Question
from edgefusion.compiler.lowering.dram_views import unlowered
from edgefusion.compiler.lowering.group_search import Choice
from edgefusion.compiler.lowering.lower import as_planned, lower
from edgefusion.compiler.lowering.plan import Group, Plan
from edgefusion.compiler.lowering.scene import Scene
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.ops.attention import Attention
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.models.source import resolve_source
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.paper.programs import build_network
from tests.group_cases import CASES, KIB

PIPELINED = schedule_named("pipelined")
MACHINE = load_target("exynos2400").machine
TIGHT = {"residual": 24, "up by phases": 24, "transformer": 24, "heavy tail": 160}
"""Kibibytes of SRAM with which a case has groups."""


def planned(network: Network, machine: Machine) -> tuple[Plan, Scene, Answers]:
    """A plan, where tensors lie, and what answers its questions again."""
    scene = unlowered(as_planned(network, machine, PIPELINED), machine, PIPELINED)
    plan = lower(network, machine, PIPELINED).plan
    return plan, scene, Answers(scene, PIPELINED, Learnt())


def case_of(name: str) -> tuple[Network, Machine]:
    kib = TIGHT[name] * KIB
    return CASES[name](), MACHINE.with_values(sram_bytes=kib, dma_bandwidth_bytes_per_s=2e9)


def chosen(group: Group) -> object:
    tilings = [(str(member.tiling), member.slots) for member in group.members]
    return tilings, group.loop.stripe, group.loop.sweeps


@pytest.mark.parametrize("name", sorted(TIGHT))
def test_a_plan_s_questions_are_those_that_the_planner_asked(name: str) -> None:
    network, machine = case_of(name)
    plan, scene, answers = planned(network, machine)
    asked = questions_of(plan, scene)
    assert sum(each.times for each in asked) == len(plan.groups)
    assert any(each.question.is_loop for each in asked), "choose another machine"
    for each in asked:
        choice = answers.choice(each.question)
        assert choice is not None
        ways = {repr(chosen(choice.group))}
        ways.add(repr(chosen(answers.rehearsed(each.question).group)))
        assert repr(chosen(each.group)) in ways


@pytest.mark.parametrize("name", sorted(TIGHT))
def test_the_space_holds_the_choice_and_proofs_hide_nothing_faster(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, machine = case_of(name)
    plan, scene, answers = planned(network, machine)
    proven = 0
    for each in questions_of(plan, scene):
        choice = answers.choice(each.question)
        assert choice is not None
        few = enumerate_question(each.question, scene, PIPELINED, choice.time_ps + 1)
        if few.sampled:  # not all are there, and what they take is found by scheduling
            continue
        with monkeypatch.context() as patch:
            patch.setattr(enumeration, "least_ps", lambda *_: 0.0)
            every = enumerate_question(each.question, scene, PIPELINED, inf)
        assert few.points == every.points
        assert few.untried == every.untried == 0
        assert few.best[0].time_ps == every.best[0].time_ps <= choice.time_ps
        assert few.costed <= every.costed
        proven += every.costed - few.costed
    assert proven > 0


def test_a_poor_search_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    source = resolve_source("tiny-test", random_weights_seed=0)
    network = build_network(source, "vae_decoder", MACHINE, lambda _: None, transposing=True)
    machine = MACHINE.with_values(sram_bytes=64 * KIB)
    plan, scene, answers = planned(network, machine)
    asked = questions_of(plan, scene)[::8]
    rows = [row_of(each, scene, PIPELINED, answers) for each in asked]
    good = summary(rows)
    assert all(row["ratio"] >= 1 and row["scheduled_ratio"] >= 1 for row in rows)

    def poorest(self: Answers, question: Question) -> Choice | None:
        if question.is_loop:
            ways = self._loop_search(question).within(question.limit_bytes)
        else:
            ways = [self._as_choice(question, found) for found in self._alone(question)]
        return max(ways, key=lambda way: way.time_ps)

    monkeypatch.setattr(Answers, "_search", poorest)
    poor = summary(
        [row_of(each, scene, PIPELINED, Answers(scene, PIPELINED, Learnt())) for each in asked]
    )
    assert poor["within_one_percent"] < 0.5 < good["within_one_percent"]
    assert poor["loss_ms"] > 10 * good["loss_ms"]
    assert poor["worst"][0]["ratio"] > 1.1


def test_attention_under_mlt_is_compared_with_every_tile_of_queries() -> None:
    network = CASES["transformer"]()
    machine = MACHINE.with_values(sram_bytes=64 * KIB)
    (row,) = attention_rows(network, machine)
    assert row["ratio"] >= 1
    assert row["costed"] > 0
    assert row["times"] == sum(isinstance(op.kind, Attention) for op in network.ops)
