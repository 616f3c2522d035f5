"""DRAM traffic of an image by cause, op and tensor, with shares: rows for reports.

Everything is a sum over the entries of a profile's ledgers; ``image_*`` counts all evaluations.
"""

from __future__ import annotations

from typing import Any

from edgefusion.toolchain.profiling.profile import Profile
from edgefusion.toolchain.reporting.traffic_rows import share_percent

AGAIN = ("spill", "reread")
"""Causes of bytes that more SRAM, or other tiles, might save."""


def by_component_and_cause(profile: Profile) -> list[dict[str, Any]]:
    """A row a component and cause that it has."""
    total = profile.dram_bytes
    return [
        {
            "component": ledger.component,
            "evaluations": evaluations,
            "cause": row.name,
            "image_bytes": evaluations * row.bytes,
            "share_percent": share_percent(evaluations * row.bytes, total),
        }
        for ledger, evaluations in profile.traffic
        for row in ledger.by("cause")
    ]


def by_op(profile: Profile) -> list[dict[str, Any]]:
    """A row an op that moves something, most bytes of an image first."""
    total = profile.dram_bytes
    rows = [
        {
            "component": op.component,
            "name": op.latency.name,
            "path": op.path,
            "image_bytes": op.evaluations * op.dram_bytes,
            "share_percent": share_percent(op.evaluations * op.dram_bytes, total),
            "image_bytes_by_cause": {
                cause: op.evaluations * n for cause, n in op.bytes_by_cause.items()
            },
        }
        for op in profile.ops
        if op.dram_bytes
    ]
    return sorted(rows, key=lambda row: -row["image_bytes"])


def by_tensor(profile: Profile) -> list[dict[str, Any]]:
    """A row a tensor that is moved, most bytes of an image first, with those of each cause, and
    the modules that move it, the one that moves most of it first."""
    total = profile.dram_bytes
    modules = {(op.component, op.latency.name): op.module for op in profile.ops}
    rows = []
    for (ledger, evaluations), component in zip(profile.traffic, profile.components, strict=True):
        tensors = {record.name: record for record in component.program.tensors}
        by_cause, by_op = (ledger.bytes_by_two("tensor", view) for view in ("cause", "op"))
        for name, causes in by_cause.items():
            ops = by_op[name]
            image_bytes = evaluations * sum(causes.values())
            movers = sorted(ops, key=lambda op: -ops[op])
            rows.append(
                {
                    "component": ledger.component,
                    "name": name,
                    "role": tensors[name].role.name.lower(),
                    "size_bytes": tensors[name].nbytes,
                    "image_bytes": image_bytes,
                    "share_percent": share_percent(image_bytes, total),
                    "image_bytes_by_cause": {c: evaluations * n for c, n in causes.items()},
                    "modules": list(dict.fromkeys(modules[ledger.component, op] for op in movers)),
                }
            )
    return sorted(rows, key=lambda row: -row["image_bytes"])


def moved_again(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those rows of ``by_tensor`` that are spilled or read again, most of such bytes first."""
    rows = [
        {**row, "again_bytes": sum(row["image_bytes_by_cause"].get(cause, 0) for cause in AGAIN)}
        for row in tensors
    ]
    return sorted((r for r in rows if r["again_bytes"]), key=lambda row: -row["again_bytes"])
