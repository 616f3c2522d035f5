"""Parts of a difference, which add up to it exactly; ``diff`` says in which order they are told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgefusion.runtime.latency import OpLatency
from edgefusion.runtime.measurement import component_latency
from edgefusion.runtime.program import Program
from edgefusion.runtime.simulator import simulate
from edgefusion.toolchain.profiling.profile import ComponentProfile, OpProfile, Profile
from edgefusion.toolchain.profiling.scenario import SIZES
from edgefusion.toolchain.reporting.comparison.changes import Reason, parameter_changes
from edgefusion.toolchain.reporting.comparison.op_matching import OpFacts, facts_of, match_ops


@dataclass(frozen=True, slots=True)
class Part:
    """What one change of one component makes of an image, latency and DRAM bytes: ``what`` was
    ``before`` and is ``after``, and it is an op's if it has a ``module``."""

    reason: Reason
    component: str
    what: str
    before: str
    after: str
    latency_ps: int
    dram_bytes: int
    module: str = ""


@dataclass(frozen=True, slots=True)
class OpDifference:
    """An op of both profiles, or of one. ``image_ps`` and ``image_bytes`` are its figures in either
    (0 where it is not); ``latency_ps`` and ``dram_bytes`` are what is attributed to it, steps and
    target apart."""

    component: str
    module: str
    kind: str
    names: tuple[str, str]
    reason: Reason
    what: str
    before: str
    after: str
    image_ps: tuple[int, int]
    image_bytes: tuple[int, int]
    latency_ps: int
    dram_bytes: int

    @property
    def path(self) -> str:
        """The module below its component."""
        return f"{self.component}.{self.module}"


def parts_of(a: Profile, b: Profile) -> tuple[tuple[Part, ...], list[OpDifference]]:
    """All parts that make something, in their order, and the ops of which anything differs."""
    parts: list[Part] = []
    differences: list[OpDifference] = []
    of_a, of_b = ({each.name: each for each in p.components} for p in (a, b))
    for name in dict.fromkeys([*of_a, *of_b]):
        before, after = of_a.get(name), of_b.get(name)
        if before is None or after is None:
            parts.append(_whole(name, before, after))
            continue
        parts += _steps(before, after)
        rates, ops = _rates(a, b, before, after.evaluations)
        parts += rates
        found = list(_ops(a, b, name, ops))
        differences += found
        parts += [
            Part(
                *(each.reason, name, each.what, each.before, each.after),
                *(each.latency_ps, each.dram_bytes, each.module),
            )
            for each in found
        ]
    return tuple(part for part in parts if part.latency_ps or part.dram_bytes), differences


def _whole(name: str, before: ComponentProfile | None, after: ComponentProfile | None) -> Part:
    """A component of one profile alone."""
    sign, each = (-1, before) if before else (1, after)
    assert each is not None
    runs = sign * each.evaluations
    what = "component gone" if before else "new component"
    moved = runs * each.ledger.total().bytes
    return Part(Reason.GRAPH, name, what, "", "", runs * each.latency.latency_ps, moved)


def _steps(before: ComponentProfile, after: ComponentProfile) -> Iterator[Part]:
    more = after.evaluations - before.evaluations
    if more:
        yield Part(
            *(Reason.STEPS, before.name, "evaluations"),
            *(str(before.evaluations), str(after.evaluations)),
            *(more * before.latency.latency_ps, more * before.ledger.total().bytes),
        )


def _rates(
    a: Profile, b: Profile, component: ComponentProfile, evaluations: int
) -> tuple[list[Part], tuple[OpLatency, ...]]:
    """The first's program with the second's rates, and its ops' latencies with all of them."""
    machine, wanted = a.scenario.machine, b.scenario.machine.flat_parameters()
    last_ps, parts = component.latency.latency_ps, []
    for change in parameter_changes(machine, b.scenario.machine):
        if change.what in SIZES:
            continue
        machine = machine.with_values(**{change.what: wanted[change.what]})
        now_ps = simulate(component.program, machine).total_ps
        parts.append(
            Part(
                *(Reason.TARGET, component.name, change.what, change.before, change.after),
                *(evaluations * (now_ps - last_ps), 0),
            )
        )
        last_ps = now_ps
    if machine is a.scenario.machine:
        return parts, component.latency.ops
    return parts, component_latency(component.program, machine).ops


def _ops(a: Profile, b: Profile, name: str, on_b: Sequence[OpLatency]) -> Iterator[OpDifference]:
    """Ops of which anything differs; ``on_b`` are the first's with the second's rates."""
    before, after = a.component(name), b.component(name)
    facts_a, facts_b = facts_of(before.program), facts_of(after.program)
    own_a, own_b = _digests(before.program), _digests(after.program)
    ops_a, ops_b = ([op for op in p.ops if op.component == name] for p in (a, b))
    runs = after.evaluations
    for i, j in match_ops(facts_a, facts_b):
        old, new = None if i is None else ops_a[i], None if j is None else ops_b[j]
        left_ps = 0 if i is None else runs * on_b[i].latency_ps
        left_bytes = 0 if old is None else runs * old.dram_bytes
        if i is None or j is None:
            why = Reason.GRAPH, "new op" if i is None else "op gone", "", ""
            same = False
        else:
            same = own_a[i] == own_b[j] and facts_a[i].record.tile == facts_b[j].record.tile
            why = _why(a, b, facts_a[i], facts_b[j], same=same)
        latency_ps = (new.image_ps if new else 0) - left_ps
        dram_bytes = (runs * new.dram_bytes if new else 0) - left_bytes
        one = new or old
        if one is not None and (latency_ps or dram_bytes or not same):
            yield OpDifference(
                *(name, one.module, one.latency.kind, (_name(old), _name(new)), *why),
                *((_image(old), _image(new)), (_moved(old), _moved(new)), latency_ps, dram_bytes),
            )


def _why(
    a: Profile, b: Profile, old: OpFacts, new: OpFacts, *, same: bool
) -> tuple[Reason, str, str, str]:
    """The first thing that differs: what, before, after."""
    one, other = old.record, new.record
    if one.macs != other.macs:
        return Reason.GRAPH, "MACs", f"{one.macs:,}", f"{other.macs:,}"
    if old.shapes != new.shapes:
        return Reason.GRAPH, "shapes", *_without_common(old.shapes, new.shapes)
    if old.types != new.types:
        return Reason.PRECISION, "types", _types(old), _types(new)
    own = "tile", one.tile, other.tile
    if one.tile == other.tile:
        own = ("order", "", "") if same else ("instructions", "", "")
    if a.scenario.schedule != b.scenario.schedule:
        return Reason.SCHEDULE, *own
    if same:
        return Reason.OVERLAP, *own
    regrouped = old.company != new.company
    return _chosen_by(a, b, regrouped=regrouped, tiled=one.tile != other.tile), *own


def _chosen_by(a: Profile, b: Profile, *, regrouped: bool, tiled: bool) -> Reason:
    """What may have made the compiler choose other instructions for the same op."""
    if a.scenario.machine.flat_parameters() != b.scenario.machine.flat_parameters():
        return Reason.TARGET
    if a.manifest.cost_model_version != b.manifest.cost_model_version:
        return Reason.COST_MODEL
    if a.manifest.tool_version != b.manifest.tool_version:
        return Reason.TOOL
    if regrouped:
        return Reason.GROUPS
    return Reason.TILES if tiled else Reason.INSTRUCTIONS


def _without_common(
    old: tuple[tuple[int, ...], ...], new: tuple[tuple[int, ...], ...]
) -> tuple[str, str]:
    rest, added = list(old), []
    for shape in new:
        if shape in rest:
            rest.remove(shape)
        else:
            added.append(shape)
    before, after = (
        ", ".join("x".join(map(str, shape)) for shape in shapes) or "none"
        for shapes in (rest, added)
    )
    return before, after


def _types(facts: OpFacts) -> str:
    return ", ".join(f"{part} {dtype}" for part, dtype in facts.types)


def _name(op: OpProfile | None) -> str:
    return op.latency.name if op else ""


def _image(op: OpProfile | None) -> int:
    return op.image_ps if op else 0


def _moved(op: OpProfile | None) -> int:
    return op.evaluations * op.dram_bytes if op else 0


def _digests(program: Program) -> list[bytes]:
    """Of every op, a digest of its own instructions: what they do on what shapes, not where nor
    when."""
    c = program.columns
    order = np.argsort(c.op, kind="stable")
    begin = np.searchsorted(c.op[order], np.arange(len(program.ops) + 1))
    found = []
    for number in range(len(program.ops)):
        rows = order[begin[number] : begin[number + 1]]
        made = hashlib.sha256()
        for column in (c.opcode, c.unit, c.cause):
            made.update(column[rows].tobytes())
        made.update(repr([program.attrs[entry] for entry in c.attrs[rows].tolist()]).encode())
        operands = np.concatenate(
            [np.arange(c.operand_begin[row], c.operand_begin[row + 1]) for row in rows]
            or [np.zeros(0, np.int64)]
        )
        for view in (c.operand_shape, c.operand_dtype, c.operand_space):
            made.update(view[operands].tobytes())
        found.append(made.digest())
    return found
