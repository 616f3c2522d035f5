"""Which op of one program is which of another: by scope, kind and origin, whatever it is called.

Names of ops and of source nodes may be numbers, which all move by one where a node is put in. So
ops of one scope and kind are aligned in the order of the program by, first, what they are from and
what they work on together, then in the gaps with numbers left out, then by origin alone; in a named
scope what is left pairs up in order. What finds no partner is new, or gone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from edgefusion.runtime.isa import DType, Role
from edgefusion.runtime.program import OpRecord, Program

_NUMBER = re.compile(r"\d+")
_WORKED_ON = (Role.INPUT, Role.OUTPUT, Role.WEIGHT, Role.ACTIVATION)
"""Tables and spills come and go with how an op is computed."""


@dataclass(frozen=True, slots=True)
class OpFacts:
    """An op and what it works on: shapes of tensors, and the type of each role, sorted. ``company``
    is what it runs with: scope and kind of the ops in its group, and the shapes of those tensors
    that DRAM never holds."""

    record: OpRecord
    shapes: tuple[tuple[int, ...], ...]
    types: tuple[tuple[str, str], ...]
    company: Hashable = ()

    @property
    def work(self) -> Hashable:
        """What stays where names change."""
        return self.record.macs, self.shapes


def facts_of(program: Program) -> tuple[OpFacts, ...]:
    """Of every op of a program."""
    c = program.columns
    op = np.repeat(c.op, np.diff(c.operand_begin))
    named = c.operand_tensor >= 0
    tensors = defaultdict(list)
    pairs = np.unique(np.stack([op[named], c.operand_tensor[named]], axis=1), axis=0)
    for number, tensor in pairs.tolist():
        record = program.tensors[tensor]
        if record.role in _WORKED_ON or record.stays_in_sram:
            tensors[number].append(record)
    members = defaultdict(list)
    for record in program.ops:
        members[record.group].append((record.scope, record.kind))

    def company(number: int, record: OpRecord) -> Hashable:
        inside = sorted(t.shape for t in tensors[number] if t.stays_in_sram)
        return tuple(members[record.group]), tuple(inside)

    return tuple(
        OpFacts(
            record,
            tuple(sorted(t.shape for t in tensors[number])),
            tuple(sorted({(_part(t.role), DType(t.dtype).name.lower()) for t in tensors[number]})),
            company(number, record),
        )
        for number, record in enumerate(program.ops)
    )


def _part(role: Role) -> str:
    return "weights" if role is Role.WEIGHT else "activations"


def match_ops(a: Sequence[OpFacts], b: Sequence[OpFacts]) -> list[tuple[int | None, int | None]]:
    """Pairs of indices, None for no partner, in the order of ``b``; what is gone comes last."""
    groups: dict[tuple[str, str], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for side, facts in enumerate((a, b)):
        for index, each in enumerate(facts):
            groups[each.record.scope, each.record.kind][side].append(index)
    partner: dict[int, int] = {}
    for (scope, _), (of_a, of_b) in groups.items():
        levels = [*_LEVELS, _anything] if scope else _LEVELS
        partner |= dict(_aligned(a, b, of_a, of_b, levels))
    found = {of_b: of_a for of_a, of_b in partner.items()}
    pairs: list[tuple[int | None, int | None]] = [(found.get(i), i) for i in range(len(b))]
    return pairs + [(i, None) for i in range(len(a)) if i not in partner]


Key = Callable[[OpFacts], Hashable]


def _as_named(facts: OpFacts) -> Hashable:
    return facts.record.origin, facts.work


def _as_worked(facts: OpFacts) -> Hashable:
    return _from(facts), facts.work


def _from(facts: OpFacts) -> Hashable:
    return tuple(_NUMBER.sub("", name) for name in facts.record.origin)


def _anything(_facts: OpFacts) -> Hashable:
    return ()


_LEVELS: list[Key] = [_as_named, _as_worked, _from]


def _aligned(
    a: Sequence[OpFacts], b: Sequence[OpFacts], of_a: list[int], of_b: list[int], levels: list[Key]
) -> list[tuple[int, int]]:
    """Pairs of ``of_a`` and ``of_b`` in order, by the first of ``levels``, then in the gaps by the
    next."""
    if not of_a or not of_b or not levels:
        return []
    key = levels[0]
    keys = [key(a[i]) for i in of_a], [key(b[i]) for i in of_b]
    pairs, at_a, at_b = [], 0, 0
    for block in SequenceMatcher(None, *keys, autojunk=False).get_matching_blocks():
        pairs += _aligned(a, b, of_a[at_a : block.a], of_b[at_b : block.b], levels[1:])
        at_a, at_b = block.a + block.size, block.b + block.size
        pairs += zip(of_a[block.a : at_a], of_b[block.b : at_b], strict=True)
    return pairs
