"""What a program's fusion groups are and what they save, as rows for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgefusion.runtime.program import Program
from edgefusion.runtime.program_columns import check_ops


def group_rows(program: Program, measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each group of ``program``, with what was ``measured`` of it
    (``runtime.latency.GroupLatency``, as JSON). ``apart_bytes`` and ``least_bytes`` are what its
    ops move at least, from DRAM to DRAM and as they are.

    Raises InputError for a table of groups that does not fit the program.
    """
    check_ops(program)
    names = [record.name for record in program.tensors]
    rows = []
    for index, (group, figures) in enumerate(zip(program.groups, measured, strict=True)):
        ops = [record for record in program.ops if record.group == index]
        least = sum(record.bound_bytes for record in ops)
        rows.append(
            {
                "group": index,
                "module": next((op.scope or op.name for op in ops), ""),
                "ops": [op.name for op in ops],
                "kinds": [op.kind for op in ops],
                "stripe_rows": group.stripe,
                "sweeps": group.sweeps,
                "rolling": [names[tensor] for tensor in group.rolling],
                "kept": [names[tensor] for tensor in group.kept],
                "shared": [names[tensor] for tensor in group.shared],
                "stays": [
                    {
                        "tensor": names[r.tensor],
                        "bytes": r.nbytes,
                        "to_group": r.last,
                        "in_dram": not r.alone,
                        "over": None if r.over is None else names[r.over],
                    }
                    for r in program.residents
                    if r.first == index
                ],
                "apart_bytes": group.apart_bytes,
                "least_bytes": least,
                "saved_bytes": group.apart_bytes - least,
                "moved_bytes": figures["dram_read_bytes"] + figures["dram_write_bytes"],
                "latency_ms": figures["latency_ms"],
                "bound_ms": figures["bound_ms"],
                "ratio": figures["ratio"],
                "border": group.border,
            }
        )
    return rows
