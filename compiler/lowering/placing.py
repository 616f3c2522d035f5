"""Plans with their places in SRAM: planned again, with less there, where they find none, and placed
again by the times of a program that ran them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgefusion.compiler.lowering.answers import Learnt
from edgefusion.compiler.lowering.dram_views import unlowered
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.group import emit_group
from edgefusion.compiler.lowering.plan import Group, Plan
from edgefusion.compiler.lowering.planner import plan_groups, plan_separately
from edgefusion.compiler.lowering.scene import Scene, with_residents
from edgefusion.compiler.memory.placement import Lifetime
from edgefusion.compiler.memory.sram import Crowded, SramLayout, Uses, lay_out
from edgefusion.compiler.network.network import NetOp, Network
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.isa import Space
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import BufferRecord, Program
from edgefusion.runtime.simulator import Timeline, simulate
from edgefusion.runtime.sram_homes import slot_of

Requests = Sequence[Mapping[str, int]]
"""Of each group, the bytes of its slots of SRAM, by label."""

_STORING = 2
"""Groups after its last reader for which a tensor stays where it is that is stored as well."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A network with a plan, and where the plan's buffers lie in SRAM (None: stacked, group by
    group), of what they ask for; ``scene`` has all its tensors in DRAM."""

    network: Network
    plan: Plan
    layout: SramLayout | None
    scene: Scene
    requests: Requests = ()

    @property
    def ops(self) -> list[NetOp]:
        """Those that the plan runs."""
        return with_instructions(self.network)


def planned(
    network: Network,
    machine: Machine,
    schedule: Schedule,
    progress: Callable[[int, int], None],
) -> list[Planned]:
    """Groups and their places in SRAM, in all ways that may be the fastest: planned again, with
    less in SRAM, where they find none."""
    ops = with_instructions(network)
    scene = unlowered(network, machine, schedule)
    if not schedule.groups:
        return [Planned(network, plan_separately(ops, scene, schedule), None, scene)]
    never: frozenset[str] = frozenset()
    learnt = Learnt()
    while True:
        plans = plan_groups(
            ops, scene, schedule, alone_never=never, learnt=learnt, progress=progress
        )
        found, crowded = [], []
        for plan in dict.fromkeys(plans):
            requests = [_requests(g, i, plan, scene, schedule) for i, g in enumerate(plan.groups)]
            layout = _laid_out(plan, requests, scene)
            if isinstance(layout, SramLayout):
                found.append(Planned(network, plan, layout, scene, requests))
            else:
                crowded.append((plan, layout))
        if found:
            return found
        for plan, layout in crowded:
            crowd = [r for r in plan.residencies if r.first <= layout.group <= r.last]
            largest = max(crowd, key=lambda r: scene.tensors[r.root].nbytes)
            never |= {largest.root}


def placed_again(
    parts: Sequence[Planned], program: Program, machine: Machine
) -> list[Planned] | None:
    """The same plans with buffers where ``program``, which ran them, says that bytes become free
    first; None where there is nothing to place, or no place found."""
    if any(part.layout is None for part in parts):
        return None
    uses = _uses(program, simulate(program, machine))
    found = []
    for part in parts:
        layout = _laid_out(part.plan, part.requests, part.scene, uses)
        if not isinstance(layout, SramLayout):
            return None
        found.append(replace(part, layout=layout))
    return found


def with_instructions(network: Network) -> list[NetOp]:
    """The ops of a network that are planned: views are none."""
    return [op for op in network.ops if not op.kind.is_view]


def _uses(program: Program, timeline: Timeline) -> Uses:
    """When buffers in SRAM are first and last in use. Of the slots of one, the first takes the
    first turn: that another came first was because of where it lay."""
    slots: dict[str, list[BufferRecord]] = {}
    for b in program.buffers:
        if b.space is Space.SRAM:
            slots.setdefault(slot_of(b.name)[0], []).append(b)
    found = {}
    for own in slots.values():
        own.sort(key=lambda b: slot_of(b.name)[1])
        starts = sorted(int(timeline.start_ps[b.first]) for b in own)
        for b, start in zip(own, starts, strict=True):
            found[b.name] = start, int(timeline.end_ps[b.last])
    return found


def _laid_out(
    plan: Plan, requests: Requests, scene: Scene, uses: Uses | None = None
) -> SramLayout | Crowded:
    """Where the buffers of a plan lie in SRAM, and what stays there; ``requests`` and ``uses``: see
    ``lay_out``."""
    machine = scene.machine
    # What is stored as well gives way late, where there is room: its stores are often under way
    # when its last reader is done, and who takes its bytes would wait for them.
    final, places = len(plan.groups) - 1, {place[0].root: place for place in plan.places}
    ends = {root: place[-1] for root, place in places.items()}
    late = {root: min(r.last + _STORING, final) for root, r in ends.items() if not r.alone}
    while True:
        lives = [
            Lifetime(
                root, place[0].first, late.get(root, ends[root].last), scene.tensors[root].nbytes
            )
            for root, place in places.items()
        ]
        layout = lay_out(lives, requests, machine.sram_bytes, machine.sram_align_bytes, uses)
        if isinstance(layout, SramLayout):
            addresses = {
                r.root: layout.residents[root] for root, place in places.items() for r in place
            }
            return replace(layout, residents=addresses)
        if not late:
            return layout
        near = min(late, key=lambda root: abs(late[root] - layout.group))
        del late[near]


def _requests(
    group: Group, index: int, plan: Plan, scene: Scene, schedule: Schedule
) -> dict[str, int]:
    """The slots of SRAM that a group asks for."""
    where = {r.root: "sram" for r in plan.residencies if r.first <= index <= r.last}
    emitter = Emitter.of_costs(scene.machine, schedule)
    emitter.begin_group()
    emit_group(emitter, group, with_residents(scene, where), [0] * len(group.members))
    return emitter.requests
