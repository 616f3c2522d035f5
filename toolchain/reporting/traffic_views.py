"""DRAM traffic of an image by cause, op and tensor, with shares: rows for reports.

Everything is a sum over the entries of a profile's ledgers; ``image_*`` counts all evaluations.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from edgefusion.runtime.ledger import Ledger
from edgefusion.toolchain.profiling.profile import Profile

AGAIN = ("spill", "reread")
"""Causes of bytes that more SRAM, or other tiles, might save."""


def total_image_bytes(profile: Profile) -> int:
    """DRAM bytes of all evaluations."""
    return sum(ledger.total().bytes * evaluations for ledger, evaluations in profile.traffic)


def by_component_and_cause(profile: Profile) -> list[dict[str, Any]]:
    """A row a component and cause that it has."""
    total = total_image_bytes(profile)
    return [
        {
            "component": ledger.component,
            "evaluations": evaluations,
            "cause": row.name,
            "image_bytes": evaluations * row.bytes,
            "share_percent": _percent(evaluations * row.bytes, total),
        }
        for ledger, evaluations in profile.traffic
        for row in ledger.by("cause")
    ]


def by_op(profile: Profile) -> list[dict[str, Any]]:
    """A row an op that moves something, most bytes of an image first."""
    total = total_image_bytes(profile)
    rows = [
        {
            "component": op.component,
            "name": op.latency.name,
            "path": op.path,
            "image_bytes": op.evaluations * op.dram_bytes,
            "share_percent": _percent(op.evaluations * op.dram_bytes, total),
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
    total = total_image_bytes(profile)
    modules = {(op.component, op.latency.name): op.module for op in profile.ops}
    rows = []
    for (ledger, evaluations), component in zip(profile.traffic, profile.components, strict=True):
        tensors = {record.name: record for record in component.program.tensors}
        for name, (causes, ops) in _tensor_sums(ledger).items():
            image_bytes = evaluations * sum(causes.values())
            movers = sorted(ops, key=lambda op: -ops[op])
            rows.append(
                {
                    "component": ledger.component,
                    "name": name,
                    "role": tensors[name].role.name.lower(),
                    "size_bytes": tensors[name].nbytes,
                    "image_bytes": image_bytes,
                    "share_percent": _percent(image_bytes, total),
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


def _tensor_sums(ledger: Ledger) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
    """For each tensor that is moved: bytes of one evaluation by cause, and by op."""
    keys = np.stack([ledger.key["tensor"], ledger.key["cause"], ledger.key["op"]])
    distinct, group = np.unique(keys, axis=1, return_inverse=True)
    sums = np.zeros(distinct.shape[1], dtype=np.int64)
    np.add.at(sums, group.reshape(-1), ledger.useful_bytes)
    found: dict[str, tuple[dict[str, int], dict[str, int]]] = {}
    for (tensor, cause, op), n in zip(distinct.T.tolist(), sums.tolist(), strict=True):
        name = ledger.names["tensor"][tensor]
        causes, ops = found.setdefault(name, (defaultdict(int), defaultdict(int)))
        causes[ledger.names["cause"][cause]] += n
        ops[ledger.names["op"][op]] += n
    return {
        name: ({c: n for c, n in causes.items() if n}, dict(ops))
        for name, (causes, ops) in found.items()
    }


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
