"""Checks of the buffer records of a program: which memory is in use from when to when."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.hazards import operand_ends
from edgefusion.runtime.isa import Space
from edgefusion.runtime.program import I64, BufferRecord, Program


def find_overlaps(program: Program, limit: int) -> list[tuple[BufferRecord, BufferRecord]]:
    """The first ``limit`` pairs of buffers that share bytes at some moment."""
    pairs: list[tuple[BufferRecord, BufferRecord]] = []
    for space in Space:
        records = [b for b in program.buffers if b.space == space]
        found = np.zeros((limit, 2), np.int64)
        nothing = np.zeros(len(program) + 1, np.int64)
        count, _ = _sweep(*_arrays(records), nothing, nothing[:0], nothing[:0], found, found[:0, 0])
        pairs.extend((records[a], records[b]) for a, b in found[:count].tolist())
    return pairs[:limit]


def find_homeless(program: Program, limit: int) -> list[int]:
    """The first ``limit`` rows of SRAM operands that no buffer holds at their instruction."""
    columns = program.columns
    rows = np.flatnonzero(columns.operand_space == Space.SRAM)
    begin = np.searchsorted(rows, columns.operand_begin)
    address, end = columns.operand_address[rows], operand_ends(columns)[rows]
    records = [b for b in program.buffers if b.space == Space.SRAM]
    found = np.zeros(limit, np.int64)
    none = np.zeros((0, 2), np.int64)
    _, count = _sweep(*_arrays(records), begin, address, end, none, found)
    return [int(row) for row in rows[found[:count]]]


def _arrays(records: list[BufferRecord]) -> tuple[I64, I64, I64, I64, npt.NDArray[np.intp]]:
    table = np.array([(b.first, b.last, b.address, b.address + b.nbytes) for b in records])
    first, last, start, stop = table.astype(np.int64).reshape(-1, 4).T.copy()
    return first, last, start, stop, np.argsort(first, kind="stable")


@compiled
def _sweep(
    first: I64,
    last: I64,
    start: I64,
    stop: I64,
    by_first: npt.NDArray[np.intp],
    operand_begin: I64,
    operand_start: I64,
    operand_stop: I64,
    overlaps: I64,
    homeless: I64,
) -> tuple[int, int]:
    """Walk through the program with the list of live buffers; fill both findings, up to their size.

    Returns how many overlaps (pairs of buffers) and how many homeless operands were found.
    """
    live = np.empty(len(first), np.int64)
    alive, following, overlap_count, homeless_count = 0, 0, 0, 0
    for i in range(len(operand_begin) - 1):
        while following < len(first) and first[by_first[following]] <= i:
            new = by_first[following]
            following += 1
            kept = 0
            for k in range(alive):
                old = live[k]
                if last[old] < i:
                    continue
                live[kept] = old
                kept += 1
                meets = start[old] < stop[new] and start[new] < stop[old]
                if meets and overlap_count < len(overlaps):
                    overlaps[overlap_count] = (old, new)
                    overlap_count += 1
            live[kept] = new
            alive = kept + 1
        for row in range(operand_begin[i], operand_begin[i + 1]):
            held = False
            for k in range(alive):
                b = live[k]
                inside = start[b] <= operand_start[row] and operand_stop[row] <= stop[b]
                if inside and last[b] >= i:
                    held = True
                    break
            if not held and homeless_count < len(homeless):
                homeless[homeless_count] = row
                homeless_count += 1
    return overlap_count, homeless_count
