"""What a plan says: groups in order with their loops, and what stays in SRAM between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgefusion.compiler.lowering.rule import Tiling
from edgefusion.compiler.network.network import NetOp


@dataclass(frozen=True, slots=True)
class Member:
    """An op of a group, with the tiling and the copies of streamed buffers that it is emitted
    with; ``record`` is what programs and reports call it. ``absorbed`` are the ops of the network
    that are done with it."""

    op: NetOp
    tiling: Tiling
    slots: int
    record: str
    absorbed: tuple[NetOp, ...] = ()


@dataclass(frozen=True, slots=True)
class Loop:
    """How a group runs: ``stripe`` rows of the last member's result a step. It is swept ``sweeps``
    times, each for another part of that result's channels; what goes before is computed again.

    ``rolling`` are the tensors made inside that lie in SRAM by stripes, ``kept`` those of them that
    are stored in DRAM as well (or that stay in SRAM whole), ``shared`` those read from DRAM that
    are loaded by stripes for several readers or for their halo. All are roots of views. Stripes of
    the results of the members ``single`` take each other's place in SRAM: one begins when the last
    reader of the one before is done.
    """

    stripe: int
    rolling: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    sweeps: int = 1
    single: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Group:
    """Members in order, and their loop."""

    members: tuple[Member, ...]
    loop: Loop


@dataclass(frozen=True, slots=True)
class Residency:
    """A tensor that stays in SRAM from one group to another; ``alone``: it has no copy in DRAM.
    ``over`` is the one whose place it takes, which its group reads last; '' for none."""

    root: str
    first: int
    last: int
    alone: bool
    over: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Groups in order, what stays in SRAM between them, and why each ends where it does."""

    groups: tuple[Group, ...]
    residencies: tuple[Residency, ...] = ()
    borders: tuple[str, ...] = ()

    def part(self, first: int, last: int) -> Plan:
        """The groups from ``first`` up to ``last``, with what stays in SRAM within these."""
        return Plan(
            self.groups[first:last],
            tuple(
                replace(r, first=r.first - first, last=r.last - first)
                for r in self.residencies
                if first <= r.first < last
            ),
            self.borders[first:last],
        )

    @property
    def places(self) -> list[list[Residency]]:
        """What stays in SRAM, by the place where it lies: of several tensors in one, each takes
        over from the one before."""
        found: dict[str, list[Residency]] = {}
        for residency in self.residencies:
            place = found[residency.over] if residency.over else []
            place.append(residency)
            found[residency.root] = place
        return list({id(place): place for place in found.values()}.values())

    @property
    def never_in_dram(self) -> frozenset[str]:
        """Roots of tensors that have no place in DRAM."""
        found = {r for g in self.groups for r in g.loop.rolling - g.loop.kept}
        found |= {r.root for r in self.residencies if r.alone}
        members = (member for group in self.groups for member in group.members)
        # What an op hands to one that is done with it.
        return frozenset(
            found | {name for m in members for op in m.absorbed for name in op.inputs if name}
        )


def joined(plans: Sequence[Plan]) -> Plan:
    """One plan that does ``plans`` one after another; its ``part``s are these."""
    whole = Plan(())
    for plan in plans:
        at = len(whole.groups)
        later = (replace(r, first=r.first + at, last=r.last + at) for r in plan.residencies)
        whole = Plan(
            (*whole.groups, *plan.groups),
            (*whole.residencies, *later),
            (*whole.borders, *plan.borders),
        )
    return whole
