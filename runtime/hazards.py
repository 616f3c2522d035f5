"""Finds pairs of instructions that touch the same bytes without an order between them.

Order (happens-before) comes from dependencies and from the in-order queues of the engine instances.
It is held as vector clocks: ``clocks[i, e]`` is the latest instruction of engine e known to have
ended when instruction i starts. Instruction a precedes x exactly if ``clocks[x, engine(a)] >= a``.
So the instructions that may run beside x are one window of each other queue, and only these are
compared with x: by a bit mask of the pages each touches, then by the bounding ranges of operands,
then byte by byte (``runtime.overlap``). No hazard is missed, as every unordered pair is looked at;
the work is the number of unordered pairs, which SRAM that is reused keeps small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.isa import DTYPE_BYTES, EngineKind, Space
from edgefusion.runtime.overlap import unordered_overlaps
from edgefusion.runtime.program import I32, I64, Columns

U64 = npt.NDArray[np.uint64]

_PAGES = 64  # bits of a mask


@dataclass(frozen=True, slots=True)
class Hazard:
    """Two unordered instructions, and the rows of the operands that overlap; one of them writes."""

    earlier: int
    later: int
    earlier_operand: int
    later_operand: int


def engine_instances(columns: Columns) -> tuple[I64, list[tuple[EngineKind, int]]]:
    """The engine instance of each instruction as a small number, and what the numbers stand for."""
    keys = columns.engine.astype(np.int64) * 256 + columns.unit
    instances, number = np.unique(keys, return_inverse=True)
    return number.reshape(-1).astype(np.int64), [
        (EngineKind(int(key) // 256), int(key) % 256) for key in instances
    ]


def operand_ends(columns: Columns) -> I64:
    """First byte after each operand's last one."""
    span = ((columns.operand_shape.astype(np.int64) - 1) * columns.operand_strides).sum(axis=1)
    return np.asarray(columns.operand_address + span + DTYPE_BYTES[columns.operand_dtype])


def happens_before(columns: Columns) -> I32:
    """``clocks`` [instructions, engine instances] as described above; -1 where nothing is known."""
    number, instances = engine_instances(columns)
    clocks = np.full((len(number), len(instances)), -1, np.int32)
    _fill_clocks(number, columns.dep_begin, columns.deps, clocks)
    return clocks


def find_hazards(columns: Columns, limit: int) -> list[Hazard]:
    """The first ``limit`` hazards in program order, at most one a pair of instructions.

    Expects columns whose dependencies point backwards and whose operands have strides >= 0.
    """
    number, instances = engine_instances(columns)
    if len(instances) < 2 or limit <= 0:
        return []
    end = operand_ends(columns)
    queue = np.argsort(number, kind="stable")
    queue_begin = np.searchsorted(number[queue], np.arange(len(instances) + 1))
    touched, written = _page_masks(columns, end)
    found = np.zeros((limit, 4), np.int64)
    count = unordered_overlaps(
        number,
        happens_before(columns),
        queue,
        queue_begin,
        touched,
        written,
        columns.operand_begin,
        columns.operand_is_output,
        columns.operand_space,
        columns.operand_address,
        end,
        columns.operand_shape.astype(np.int64),
        columns.operand_strides,
        DTYPE_BYTES[columns.operand_dtype],
        found,
    )
    return [Hazard(*row) for row in found[:count].tolist()]


def _page_masks(columns: Columns, end: I64) -> tuple[U64, U64]:
    """Pages (64 a memory) that each instruction touches and writes: [instructions, memories]."""
    masks = np.zeros((2, len(columns.opcode), len(Space)), np.uint64)
    for space in Space:
        here = columns.operand_space == space
        page_bytes = max(1, -(-int(end[here].max(initial=1)) // _PAGES))
        first, last = columns.operand_address // page_bytes, (end - 1) // page_bytes
        for mask, rows in zip(masks, (here, here & (columns.operand_is_output == 1)), strict=True):
            _fill_masks(columns.operand_begin, rows, first, last, mask[:, space])
    return masks[0], masks[1]


@compiled
def _fill_masks(
    operand_begin: I64,
    rows: npt.NDArray[np.bool_],
    first_page: I64,
    last_page: I64,
    mask: U64,
) -> None:
    for i in range(len(mask)):
        for row in range(operand_begin[i], operand_begin[i + 1]):
            if rows[row]:
                for page in range(first_page[row], last_page[row] + 1):
                    mask[i] |= np.uint64(1) << np.uint64(page)


@compiled
def _fill_clocks(number: I64, dep_begin: I64, deps: I32, clocks: I32) -> None:
    engines = clocks.shape[1]
    previous = np.full(engines, -1, np.int64)
    for i in range(len(number)):
        for k in range(dep_begin[i] - 1, dep_begin[i + 1]):
            before = previous[number[i]] if k < dep_begin[i] else np.int64(deps[k])
            if before >= 0:
                for e in range(engines):
                    clocks[i, e] = max(clocks[i, e], clocks[before, e])
                clocks[i, number[before]] = max(clocks[i, number[before]], before)
        previous[number[i]] = i
