"""How far the compiler's choice of tiles is from the best of all sizes.

Every distinct question (op or group, with its operands where they lie, and what SRAM is left) that
the ``pipelined`` plan of the full-size pipeline has asked is answered again by enumeration
(``benchmarks.enumeration``), with the cost that the search minimises. That is an estimate of how
engines overlap; so the fastest points found are scheduled as well, beside the group of the plan.
Attention under ``mlt`` is compared too, where costs are the simulated time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from edgefusion.benchmarks.enumeration import Enumerated, enumerate_question
from edgefusion.compiler.lowering.answers import Answers, Learnt, Question
from edgefusion.compiler.lowering.dram_views import unlowered
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.group import emit_group
from edgefusion.compiler.lowering.lower import as_planned, lower
from edgefusion.compiler.lowering.plan import Group, Loop, Member, Plan
from edgefusion.compiler.lowering.rehearsal import rehearse
from edgefusion.compiler.lowering.rule import OpContext
from edgefusion.compiler.lowering.scene import Scene, signature, with_residents
from edgefusion.compiler.lowering.tile_search import best
from edgefusion.compiler.network.network import NetOp, Network
from edgefusion.compiler.ops.attention import Attention
from edgefusion.compiler.schedule.schedule import Schedule, schedule_named
from edgefusion.models.source import resolve_source
from edgefusion.runtime.groups import STATISTICS
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.paper.programs import build_network

PRESET = "bk-sdm-tiny"
COMPONENTS = ("text_encoder", "unet", "vae_decoder")
CLOSE = 1.01
SECONDS = 300.0
"""What enumeration of one question may take; what is left then is counted as untried."""
_PARTS = 8
"""Jobs that the questions of a component are dealt out to."""
_SCHEDULED = 30_000
"""Instructions of the fastest points of a question that are scheduled."""


@dataclass(frozen=True)
class Asked:
    """A question that a plan has asked, how often, and the group that it has for it."""

    question: Question
    group: Group
    times: int


def questions_of(plan: Plan, scene: Scene) -> list[Asked]:
    """The distinct questions of a plan, those of the host left out."""
    found: dict[Any, Asked] = {}
    times: Counter[Any] = Counter()
    for index, group in enumerate(plan.groups):
        ops = [member.op for member in group.members]
        if not ops[0].kind.on_npu:
            continue
        where = {
            r.root: "sram" if r.alone or r.first < index else "both"
            for r in plan.residencies
            if r.first <= index <= r.last
        }
        loop = replace(group.loop, stripe=0, sweeps=1, single=frozenset())
        drops = group.members[-1].record.endswith(STATISTICS)
        over = next((r.over for r in plan.residencies if r.first == index), "")
        question = Question.of(ops, loop, where, scene, drops=drops, over=over)
        assert question is not None, "it has been answered"
        found.setdefault(question.key, Asked(question, group, 1))
        times[question.key] += 1
    return [replace(asked, times=times[key]) for key, asked in found.items()]


def row_of(asked: Asked, scene: Scene, schedule: Schedule, answers: Answers) -> dict[str, Any]:
    """One question: the search's answer, the best of all, and the same scheduled."""
    question = asked.question
    begin = time.perf_counter()
    choice = answers.choice(question)
    assert choice is not None, "it has been answered"
    found = enumerate_question(question, scene, schedule, choice.time_ps, SECONDS)
    row = _row(question.ops, asked.times, choice.group, choice.time_ps, found)
    placed = with_residents(scene, question.where)
    timed = [(_scheduled_ps(asked.group, placed, schedule), asked.group)]
    budget = _SCHEDULED
    for point in found.best:
        if budget > 0:
            timed.append((_scheduled_ps(point.group, placed, schedule), point.group))
            budget -= point.instructions
    fastest_ps, fastest = min(timed, key=lambda entry: entry[0])
    return {
        **row,
        "plan": describe(asked.group),
        "scheduled_ms": timed[0][0] / 1e9,
        "best_scheduled_ms": fastest_ps / 1e9,
        "best_scheduled": describe(fastest),
        "scheduled_ratio": timed[0][0] / fastest_ps,
        "scheduled_points": len(timed),
        "seconds": time.perf_counter() - begin,
    }


def _row(
    ops: Sequence[NetOp], times: int, chosen: Group, time_ps: float, found: Enumerated
) -> dict[str, Any]:
    better = [(p.time_ps, p.group) for p in found.best[:1] if p.time_ps < time_ps]
    best_ps, group = better[0] if better else (time_ps, chosen)
    return {
        "ops": [op.name for op in ops],
        "kinds": " + ".join(op.kind.name for op in ops),
        "times": times,
        "choice": describe(chosen),
        "choice_ms": time_ps / 1e9,
        "best": describe(group),
        "best_ms": best_ps / 1e9,
        "ratio": time_ps / best_ps,
        "points": found.points,
        "costed": found.costed,
        "untried": found.untried,
        "sampled": found.sampled,
    }


def describe(group: Group) -> str:
    """Tilings, copies of an op by itself, and stripes in words."""
    tilings = " | ".join(str(member.tiling) for member in group.members)
    loop = group.loop
    if loop.stripe:
        return f"{tilings} | stripe={loop.stripe}"
    return f"{tilings} copies={group.members[0].slots}"


def _scheduled_ps(group: Group, scene: Scene, schedule: Schedule) -> int:
    def emit(e: Emitter) -> None:
        e.begin_group()
        emit_group(e, group, scene, [0] * len(group.members))

    return rehearse(emit, scene.machine, schedule).total_ps


def attention_rows(network: Network, machine: Machine) -> list[dict[str, Any]]:
    """Distinct attentions under ``mlt``, where each op is by itself."""
    schedule = schedule_named("mlt")
    scene = unlowered(network, machine, schedule)
    known: dict[Any, list[NetOp]] = {}
    for op in network.ops:
        if isinstance(op.kind, Attention):
            known.setdefault(signature([op], scene, {}), []).append(op)
    rows = []
    for ops in known.values():
        op = ops[0]
        question = Question.of([op], Loop(0), {}, scene)
        assert question is not None
        chosen = best(OpContext(op, machine, scene.tensors, scene.views), schedule)
        found = enumerate_question(question, scene, schedule, chosen.time_ps, SECONDS)
        group = Group((Member(op, chosen.tiling, chosen.slots, op.name),), Loop(0))
        rows.append(_row([op], len(ops), group, chosen.time_ps, found))
    return rows


@dataclass(frozen=True)
class Job:
    """Every ``_PARTS``-th question of a component from the ``first`` on, or its attentions under
    ``mlt``."""

    component: str
    network: Network
    plan: Plan
    first: int

    def rows(self, machine: Machine) -> list[dict[str, Any]]:
        """One a question."""
        if self.first < 0:
            return attention_rows(self.network, machine)
        schedule = schedule_named("pipelined")
        scene = unlowered(as_planned(self.network, machine, schedule), machine, schedule)
        answers = Answers(scene, schedule, Learnt())
        asked = questions_of(self.plan, scene)[self.first :: _PARTS]
        rows = []
        for each in asked:
            rows.append(row_of(each, scene, schedule, answers))
            _say(self.component, rows[-1])
        return rows


def _say(component: str, row: Mapping[str, Any]) -> None:
    print(
        f"{component} {row['kinds']} x{row['times']}: {row['choice_ms']:.4f} ms, ratio"
        f" {row['ratio']:.4f}, scheduled {row['scheduled_ratio']:.4f}; {row['costed']:,} of"
        f" {row['points']:,} costed, {row['untried']:,} untried, {row['seconds']:.1f} s",
        flush=True,
    )


def measured(networks: Mapping[str, Network], machine: Machine) -> dict[str, Any]:
    """All rows of the components, by name, and what they add up to."""
    schedule = schedule_named("pipelined")
    jobs = []
    for name, network in networks.items():
        plan = lower(network, machine, schedule).plan
        jobs += [Job(name, network, plan, first) for first in range(-1, _PARTS)]
    with ProcessPoolExecutor() as pool:
        made = list(pool.map(Job.rows, jobs, [machine] * len(jobs)))
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in networks}
    attention: dict[str, list[dict[str, Any]]] = {name: [] for name in networks}
    for job, found in zip(jobs, made, strict=True):
        (attention if job.first < 0 else rows)[job.component] += found
    return {
        "summary": {name: summary(own) for name, own in rows.items()},
        "rows": rows,
        "attention_under_mlt": attention,
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How near the questions of a component are to the best, and what the distance adds up to over
    its groups: by the search's own cost, and scheduled."""
    worst = sorted(rows, key=lambda row: -row["ratio"])[:5]

    def loss_ms(chosen: str, least: str) -> float:
        return float(sum(row["times"] * (row[chosen] - row[least]) for row in rows))

    return {
        "ops": sum(" + " not in row["kinds"] for row in rows),
        "groups": sum(" + " in row["kinds"] for row in rows),
        "within_one_percent": _share(rows, "ratio"),
        "scheduled_within_one_percent": _share(rows, "scheduled_ratio"),
        "loss_ms": loss_ms("choice_ms", "best_ms"),
        "scheduled_loss_ms": loss_ms("scheduled_ms", "best_scheduled_ms"),
        "sum_ms": float(sum(row["times"] * row["choice_ms"] for row in rows)),
        "points": sum(row["points"] for row in rows),
        "costed": sum(row["costed"] for row in rows),
        "untried": sum(row["untried"] for row in rows),
        "sampled": [row["ops"] for row in rows if row["sampled"]],
        "worst": [
            {"ops": row["ops"], "ratio": row["ratio"], "times": row["times"]} for row in worst
        ],
    }


def _share(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    close = [row for row in rows if row[key] <= CLOSE]
    return len(close) / len(rows)


def main() -> dict[str, Any]:
    """The three components; some 10 minutes of two cores."""
    machine = load_target("exynos2400").machine
    source = resolve_source(PRESET, random_weights_seed=0)
    built = {
        name: build_network(source, name, machine, print, transposing=True) for name in COMPONENTS
    }
    # One plan a network: what runs once a prompt asks the same questions.
    networks = {name: replace(network, constant_inputs=()) for name, network in built.items()}
    result = measured(networks, machine)
    for name, found in result["summary"].items():
        print(
            f"{name}: {found['ops']} ops and {found['groups']} groups,"
            f" {found['within_one_percent']:.0%} within 1 %, loss {found['loss_ms']:.3f} ms"
            f" ({found['scheduled_loss_ms']:.3f} scheduled) of {found['sum_ms']:.1f}"
        )
        for worst in found["worst"]:
            print(f"  {worst['ratio']:.4f} x{worst['times']} {', '.join(worst['ops'])}")
    return result
