"""Rules of ``runtime.verifier`` on the form of a program and of its instructions."""

from __future__ import annotations

import numpy as np

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import MAX_RANK, DType, EngineKind, Opcode, Space
from edgefusion.runtime.opcodes import SPECIFICATIONS
from edgefusion.runtime.program_columns import OperandRows, attribute_uses, check_columns
from edgefusion.runtime.violation import Subject, Violation, Violations

_UNLIMITED = np.iinfo(np.int64).max
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


def instruction_forms(subject: Subject) -> Violations:
    """Attributes and the numbers of outputs and inputs are those of the opcode.

    Each use of attributes by an opcode is looked at once, and reported at its first instruction.
    """
    program, c = subject.program, subject.program.columns
    faults: dict[tuple[int, int], str] = {}
    # Fewest and most outputs, fewest and most inputs, of each opcode with each entry of attributes.
    bounds = np.zeros((4, len(Opcode), len(program.attrs)), np.int64)
    bounds[1::2] = _UNLIMITED
    for code, entry in attribute_uses(program).tolist():
        specification, attrs = SPECIFICATIONS[Opcode(code)], program.attrs[entry]
        fault = specification.fault(attrs)
        if fault:
            faults[code, entry] = fault
            continue
        named = specification.complete(attrs)
        counts = (*specification.output_counts(named), *specification.input_counts(named))
        bounds[:, code, entry] = [_UNLIMITED if count is None else count for count in counts]
    for (code, entry), fault in faults.items():
        first = int(np.argmax((c.opcode == code) & (c.attrs == entry)))
        yield Violation("attributes", first, fault)
    before = np.concatenate([[0], np.cumsum(c.operand_is_output == 1)])
    outputs = before[c.operand_begin[1:]] - before[c.operand_begin[:-1]]
    inputs = np.diff(c.operand_begin) - outputs
    least_out, most_out, least_in, most_in = bounds[:, c.opcode, c.attrs]
    fits = (least_out <= outputs) & (outputs <= most_out)
    fits &= (least_in <= inputs) & (inputs <= most_in)
    yield from subject.instructions(
        "operands",
        ~fits,
        lambda i: (
            f"expected {_count(least_out[i], most_out[i])} outputs and "
            f"{_count(least_in[i], most_in[i])} inputs with these attributes, "
            f"found {outputs[i]} and {inputs[i]}"
        ),
    )


def _count(least: int, most: int) -> str:
    if most == _UNLIMITED:
        return f"at least {least}"
    return str(least) if least == most else f"{least} to {most}"


def dependencies(subject: Subject) -> Violations:
    """Dependencies name earlier instructions."""
    program, c = subject.program, subject.program.columns
    owner = np.repeat(np.arange(len(program)), np.diff(c.dep_begin))
    for k in np.flatnonzero((c.deps < 0) | (c.deps >= owner))[: subject.limit].tolist():
        message = f"expected dependencies on earlier instructions, found {c.deps[k]}"
        yield Violation("dependency", int(owner[k]), message)


def once(subject: Subject) -> Violations:
    """What runs once is a beginning of instructions, and of the ops and groups of these."""
    program = subject.program
    record = program.once
    if record is None:
        return
    n, op = record.instructions, program.columns.op
    parts = 0 < n < len(program) and op[:n].max() < record.ops <= op[n:].min()
    groups = [each.group for each in program.ops]
    whole = parts and max(groups[: record.ops]) < record.groups <= min(groups[record.ops :])
    if not whole:
        yield Violation("once", -1, f"expected a beginning that runs once, found {record}")


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


def sums(subject: Subject) -> Violations:
    """Products go on from sums of the accumulator's type: those in their result, or an operand of
    the result's size, whose result is then of another type."""
    program, c = subject.program, subject.program.columns
    product = (c.opcode == Opcode.CONV2D) | (c.opcode == Opcode.MATMUL)
    flags = [dict(attrs) for attrs in program.attrs]
    adds, starts = (
        product & np.array([bool(named.get(name, 0)) for named in flags], dtype=bool)[c.attrs]
        for name in ("accumulate", "sums")
    )
    if not (adds | starts).any():
        return
    rows = OperandRows(program)
    y, x, last = rows.first_output, rows.first_input, c.operand_begin[1:] - 1
    types = c.operand_dtype
    # An instruction without operands is no product, and its rows are not looked at.
    y, x, last = (np.where(adds | starts, row, 0) for row in (y, x, last))
    wide = np.where(types[x] == DType.FP16, DType.FP32, DType.INT64)
    same = (c.operand_shape[y] == c.operand_shape[last]).all(axis=1)
    fits = np.where(starts, (types[last] == wide) & (types[y] != wide) & same, types[y] == wide)
    yield from subject.instructions(
        "sums",
        (adds & starts) | ((adds | starts) & ~fits),
        lambda i: (
            f"expected sums of type {DType(int(wide[i])).name.lower()} in the result, or of its "
            f"shape {c.operand_shape[y[i]].tolist()} in the last operand, found "
            f"{DType(int(types[y[i]])).name.lower()} and {DType(int(types[last[i]])).name.lower()} "
            f"{c.operand_shape[last[i]].tolist()}"
        ),
    )
