"""Which row of ``runtime.functions.UNARY`` a node of the graph is."""

from __future__ import annotations

from math import isclose

from edgefusion.compiler.graph.functions import DOMAIN
from edgefusion.compiler.graph.node import Node
from edgefusion.runtime.functions import UNARY_BY_OP, Operator, Unary

_TOLERANCE = 1e-6
"""Attributes are stored in FP32."""


def unary_function(node: Node) -> Unary | None:
    """The function that ``node`` applies to its first operand; None if the tables have no such."""
    rows = UNARY_BY_OP.get(node.op, ())
    return next((row for row in rows if _is(node, row.operator)), None)


def settings_text(operator: Operator) -> str:
    """What an operator must be set to, for users: ``min = 0, max = 6``."""
    pairs = [(each.name, each.value) for each in operator.attributes] + list(operator.constants)
    return ", ".join(
        f"{name} = {value if isinstance(value, str) else format(value, 'g')}"
        for name, value in pairs
    )


def _is(node: Node, operator: Operator) -> bool:
    if node.domain != (DOMAIN if operator.definition else ""):
        return False
    for each in operator.attributes:
        if isinstance(each.value, str):
            if node.get_str(each.name, str(each.default)) != each.value:
                return False
        elif not _close(node.get_float(each.name, float(each.default)), each.value):
            return False
    operands = [node.input(1 + index) for index in range(len(operator.constants))]
    return all(
        tensor is not None and _close(tensor.scalar(), value)
        for tensor, (_, value) in zip(operands, operator.constants, strict=True)
    )


def _close(found: float | None, wanted: float) -> bool:
    return found is not None and isclose(found, wanted, rel_tol=_TOLERANCE)
