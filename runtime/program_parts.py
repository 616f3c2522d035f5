"""What of a program runs once for several evaluations, and what at each: programs of their own.

A program that has ``once`` is whole: run from its first instruction, it needs nothing but its
inputs. While its constant inputs stay the same, what the beginning has made of them still lies in
DRAM, and it may be run from there. These parts are for measuring; their dependencies on what has
ended before them are left out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgefusion.runtime.pipeline_roles import prompt_part
from edgefusion.runtime.program import Columns, Program


def runs_of(
    program: Program, evaluations: int, prompts: int = 1
) -> tuple[tuple[Program, int], ...]:
    """What runs how often for an image that takes so many evaluations of ``program``, in which so
    many prompts take turns; in order."""
    first, *rest = parts_of(program)
    if not rest:
        return ((first, evaluations),)
    return (first, prompt_runs(evaluations, prompts)), (rest[0], evaluations)


def prompt_runs(evaluations: int, prompts: int) -> int:
    """How often what depends on the prompt is computed. DRAM keeps it of one prompt: of several
    that take turns, as under guidance in two passes, it is made anew at each."""
    return 1 if prompts == 1 else evaluations


def parts_of(program: Program) -> tuple[Program, ...]:
    """The part of ``program`` that runs once a prompt, by that name, and the one that runs each
    time; itself alone where there is only one."""
    once = program.once
    if once is None:
        return (program,)
    first = _part(program, 0, once.instructions, (0, once.ops), (0, once.groups))
    last = (once.ops, len(program.ops)), (once.groups, len(program.groups))
    second = _part(program, once.instructions, len(program), *last)
    name = prompt_part(program.component)
    first = replace(first, component=name, fused=once.fused, chain_ps=once.chain_ps)
    return first, replace(second, fused=program.fused - once.fused)


Span = tuple[int, int]


def _part(program: Program, first: int, last: int, ops: Span, groups: Span) -> Program:
    """Instructions ``first`` up to ``last``, which are those of ``ops``, in ``groups``."""
    return replace(
        program,
        columns=_rows(program.columns, first, last, ops[0]),
        ops=tuple(replace(op, group=op.group - groups[0]) for op in program.ops[slice(*ops)]),
        buffers=tuple(
            replace(b, first=max(b.first, first) - first, last=min(b.last, last - 1) - first)
            for b in program.buffers
            if b.first < last and b.last >= first
        ),
        groups=program.groups[slice(*groups)],
        residents=tuple(
            replace(r, first=r.first - groups[0], last=r.last - groups[0])
            for r in program.residents
            if groups[0] <= r.first < groups[1]
        ),
        once=None,
    )


def _rows(c: Columns, first: int, last: int, first_op: int) -> Columns:
    operands = slice(int(c.operand_begin[first]), int(c.operand_begin[last]))
    begin, end = int(c.dep_begin[first]), int(c.dep_begin[last])
    inside = c.deps[begin:end] >= first
    counted = np.concatenate([[0], np.cumsum(inside)])
    moved = {
        name: getattr(c, name)[operands]
        for name in Columns.__slots__
        if name.startswith("operand_") and name != "operand_begin"
    }
    return Columns(
        **{n: getattr(c, n)[first:last] for n in ("engine", "unit", "opcode", "cause", "attrs")},
        op=c.op[first:last] - np.int32(first_op),
        operand_begin=c.operand_begin[first : last + 1] - operands.start,
        dep_begin=counted[c.dep_begin[first : last + 1] - begin].astype(np.int64),
        deps=c.deps[begin:end][inside] - np.int32(first),
        **moved,
    )
