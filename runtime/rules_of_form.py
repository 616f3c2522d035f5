"""Rules of ``runtime.verifier`` on the form of a program: codes, dependencies, operand views."""

from __future__ import annotations

import numpy as np

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import MAX_RANK, EngineKind, Space
from edgefusion.runtime.program_columns import check_columns
from edgefusion.runtime.violation import Subject, Violation, Violations

_LARGEST_ADDRESS = 2.0**62  # beyond it, address arithmetic in 64 bits is not safe


def columns(subject: Subject) -> Violations:
    """Columns agree in length, and codes that index a table are in it."""
    program = subject.program
    try:
        check_columns(program)
    except InputError as error:
        yield Violation("columns", -1, str(error))


def codes(subject: Subject) -> Violations:
    """Engine instances exist on the machine; spaces, ops and tensors exist in the program."""
    program, c = subject.program, subject.program.columns
    units = np.array([subject.machine.engines[kind] for kind in EngineKind])
    yield from subject.instructions(
        "engine",
        c.unit >= units[c.engine],
        lambda i: (
            f"expected a {EngineKind(int(c.engine[i])).name.lower()} unit below "
            f"{units[c.engine[i]]}, found {c.unit[i]}"
        ),
    )
    yield from subject.instructions(
        "op",
        (c.op < 0) | (c.op >= len(program.ops)),
        lambda i: f"expected an op below {len(program.ops)}, found {c.op[i]}",
    )
    yield from subject.operands(
        "space",
        c.operand_space >= len(Space),
        lambda r: f"expected a memory space below {len(Space)}, found {c.operand_space[r]}",
    )
    nameless = (c.operand_space == Space.DRAM) & (c.operand_tensor < 0)
    yield from subject.operands(
        "tensor",
        nameless | (c.operand_tensor < -1) | (c.operand_tensor >= len(program.tensors)),
        lambda r: (
            f"expected a tensor below {len(program.tensors)} (or -1 in SRAM), "
            f"found {c.operand_tensor[r]}"
        ),
    )


def dependencies(subject: Subject) -> Violations:
    """Dependencies name earlier instructions."""
    program, c = subject.program, subject.program.columns
    owner = np.repeat(np.arange(len(program)), np.diff(c.dep_begin))
    for k in np.flatnonzero((c.deps < 0) | (c.deps >= owner))[: subject.limit].tolist():
        message = f"expected dependencies on earlier instructions, found {c.deps[k]}"
        yield Violation("dependency", int(owner[k]), message)


def operand_views(subject: Subject) -> Violations:
    """Outputs come first; shapes are positive, strides are not negative, and both padded."""
    c = subject.program.columns
    output = c.operand_is_output.astype(np.int64)
    starts = np.zeros(len(output), dtype=bool)
    starts[c.operand_begin[:-1][np.diff(c.operand_begin) > 0]] = True
    after_input = ~starts & (output == 1) & (np.roll(output, 1) == 0)
    padding = np.arange(MAX_RANK) < MAX_RANK - c.operand_rank.astype(np.int64)[:, None]
    padded = ((c.operand_shape == 1) & (c.operand_strides == 0)) | ~padding
    span = ((c.operand_shape - 1.0) * c.operand_strides).sum(axis=1) + c.operand_address
    wrong = (
        after_input
        | (output > 1)
        | (c.operand_rank > MAX_RANK)
        | (c.operand_shape < 1).any(axis=1)
        | (c.operand_strides < 0).any(axis=1)
        | (span > _LARGEST_ADDRESS)
        | ~padded.all(axis=1)
    )
    yield from subject.operands(
        "view",
        wrong,
        lambda r: (
            f"expected outputs before inputs, at most {MAX_RANK} dimensions, left-padded, with "
            f"sizes >= 1 and strides >= 0; found rank {c.operand_rank[r]}, shape "
            f"{c.operand_shape[r].tolist()}, strides {c.operand_strides[r].tolist()}, output flag "
            f"{c.operand_is_output[r]} after {c.operand_is_output[r - 1] if r else 'nothing'}"
        ),
    )
