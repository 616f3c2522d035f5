"""Names that nothing else in an ONNX graph has; every node gets one of its own, for reports and
origins tell nodes by name."""

from __future__ import annotations

from collections.abc import Sequence

import onnx


def free_name(wish: str, taken: set[str]) -> str:
    """``wish``, or ``wish_1`` and so on: a name that is not ``taken``, and is from now on."""
    name, count = wish, 0
    while name in taken:
        count += 1
        name = f"{wish}_{count}"
    taken.add(name)
    return name


def name_nodes(nodes: Sequence[onnx.NodeProto]) -> None:
    """Name ``nodes`` uniquely, in place; names that are unique already stay."""
    taken = {node.name for node in nodes}
    seen: set[str] = set()
    for node in nodes:
        if not node.name or node.name in seen:
            node.name = free_name(node.name or f"{node.op_type}_{node.output[0]}", taken)
        seen.add(node.name)
