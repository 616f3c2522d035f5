"""Every node gets a name of its own, for reports and origins tell nodes by name."""

from __future__ import annotations

from collections.abc import Sequence

import onnx


def name_nodes(nodes: Sequence[onnx.NodeProto]) -> None:
    """Name ``nodes`` uniquely, in place; names that are unique already stay."""
    taken = {node.name for node in nodes}
    seen: set[str] = set()
    for node in nodes:
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        stem, count = node.name or f"{node.op_type}_{node.output[0]}", 0
        name = stem
        while name in taken or name in seen or not name:
            count += 1
            name = f"{stem}_{count}"
        node.name = name
        seen.add(name)
