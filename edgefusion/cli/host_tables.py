"""What runs on the host, as tables and JSON of ``compile`` and ``inspect``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgefusion.cli.table import Column, Table
from edgefusion.toolchain.reporting.number_forms import whole

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.manifest import Manifest

_OPS = (
    Column("component", "component"),
    Column("function", "function", detail=True),
    Column("op", "host op"),
    Column("reason", "why the host runs it", keep=True),
)
_CALLS = (
    Column("component", "component"),
    Column("function", "function"),
    Column("calls", "calls", whole),
    Column("input_bytes", "bytes to host", whole),
    Column("output_bytes", "bytes from host", whole),
    Column("backend", "runs in"),
    Column("remark", "why not in the library", keep=True),
)


def host_op_rows(manifest: Manifest) -> list[dict[str, Any]]:
    """One row for each op on the host."""
    return [
        {"component": info.name, **asdict(op), "origin": list(op.origin)}
        for info in manifest.components
        for op in info.host_ops
    ]


def host_call_rows(manifest: Manifest) -> list[dict[str, Any]]:
    """One row for each host function: its calls in one evaluation, and the bytes of all of them."""
    return [
        {"component": info.name, **asdict(call)}
        for info in manifest.components
        for call in info.host_calls
    ]


def host_tables(document: dict[str, Any]) -> list[Table]:
    """The tables of a document with ``host_ops`` and ``host_calls``; none if all is the NPU's."""
    rows, calls = document["host_ops"], document["host_calls"]
    tables = [Table("On the host", _OPS, rows)] if rows else []
    return [*tables, Table("Calls of the host", _CALLS, calls)] if calls else tables
