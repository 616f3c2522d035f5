"""Writes timelines as Chrome trace JSON, for Perfetto (ui.perfetto.dev) or chrome://tracing.

One process a component, one track an engine, one slice an instruction: named for its op, with
opcode, index and, for transfers, useful bytes, cause and tensor as arguments. Slices are written as
they are made, so a program of a million instructions needs no more memory than its columns, and
the same timeline gives the same bytes. Format: "Trace Event Format" of the Chromium project.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TextIO

from edgefusion.runtime.isa import Cause, EngineKind, Opcode
from edgefusion.runtime.opcodes import OPCODE_ENGINE
from edgefusion.runtime.program import Program
from edgefusion.runtime.program_columns import check_ops
from edgefusion.runtime.simulator import Timeline

CHUNK = 4096
"""Instructions turned into Python values at a time."""


def write_trace(file: TextIO, parts: Sequence[tuple[Program, Timeline]]) -> None:
    """Write one trace of the components, one evaluation each, one after another in time.

    Raises InputError for an instruction without an op.
    """
    file.write('{"displayTimeUnit":"ns","traceEvents":[')
    separator = "\n"
    offset_ps = 0
    for process, (program, timeline) in enumerate(parts, start=1):
        check_ops(program)
        for event in _events(process, offset_ps, program, timeline):
            file.write(separator + event)
            separator = ",\n"
        offset_ps += timeline.total_ps
    file.write("\n]}\n")


def _events(process: int, offset_ps: int, program: Program, timeline: Timeline) -> Iterator[str]:
    yield _name("process_name", process, 0, program.component)
    for track, engine in enumerate(timeline.engines):
        yield _name("thread_name", process, track, engine)
    op_names = [json.dumps(op.name) for op in program.ops]
    tensor_names = [json.dumps(tensor.name) for tensor in program.tensors]
    opcodes, causes = [o.name for o in Opcode], [c.name.lower() for c in Cause]
    is_dma = (OPCODE_ENGINE == EngineKind.DMA).tolist()
    transfers = _transfers(program, timeline, causes, tensor_names)
    columns = program.columns
    for first in range(0, len(program), CHUNK):
        rows = slice(first, first + CHUNK)
        table = zip(
            range(first, first + CHUNK),
            timeline.engine[rows].tolist(),
            timeline.start_ps[rows].tolist(),
            timeline.end_ps[rows].tolist(),
            columns.opcode[rows].tolist(),
            columns.op[rows].tolist(),
            strict=False,
        )
        for index, track, start, end, opcode, op in table:
            transfer = next(transfers) if is_dma[opcode] else ""
            yield (
                f'{{"ph":"X","pid":{process},"tid":{track},"ts":{_us(offset_ps + start)},'
                f'"dur":{_us(end - start)},"name":{op_names[op]},"cat":"{opcodes[opcode]}",'
                f'"args":{{"opcode":"{opcodes[opcode]}","instruction":{index}{transfer}}}}}'
            )


def _transfers(
    program: Program, timeline: Timeline, causes: list[str], tensor_names: list[str]
) -> Iterator[str]:
    """Further arguments of each DMA instruction, in program order."""
    dma, c = timeline.work.dma, program.columns
    for first in range(0, len(dma.index), CHUNK):
        rows = slice(first, first + CHUNK)
        for nbytes, cause, tensor in zip(
            dma.useful_bytes[rows].tolist(),
            c.cause[dma.index[rows]].tolist(),
            c.operand_tensor[dma.operand[rows]].tolist(),
            strict=True,
        ):
            name = tensor_names[tensor] if 0 <= tensor < len(tensor_names) else "null"
            yield f',"bytes":{nbytes},"cause":"{causes[cause]}","tensor":{name}'


def _name(what: str, process: int, track: int, name: str) -> str:
    return (
        f'{{"ph":"M","pid":{process},"tid":{track},"name":"{what}",'
        f'"args":{{"name":{json.dumps(name)}}}}}'
    )


def _us(ps: int) -> str:
    """Picoseconds as microseconds, exactly."""
    return f"{ps // 10**6}.{ps % 10**6:06d}"
