"""GELU written out with erf or tanh becomes the standard ``Gelu`` op.

The formulas are products and sums that exporters associate in many ways, so they are compared as
polynomials in x and the function's value t, not node by node:
    erf:  0.5 x + 0.5 x t,  t = erf(x / sqrt 2)
    tanh: 0.5 x + 0.5 x t,  t = tanh(sqrt(2 / pi) (x + 0.044715 x^3))
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.passes.matching import close, is_op, leak
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks

Polynomial = dict[tuple[int, int], float]
"""Coefficients by the powers of x and t."""

_TANH_FACTOR = math.sqrt(2 / math.pi)
_ARGUMENTS: dict[str, tuple[str, Polynomial]] = {
    "Erf": ("none", {(1, 0): math.sqrt(0.5)}),
    "Tanh": ("tanh", {(1, 0): _TANH_FACTOR, (3, 0): _TANH_FACTOR * 0.044715}),
}
_RESULT: Polynomial = {(1, 0): 0.5, (1, 1): 0.5}
_MAX_DEPTH = 8
_MAX_DEGREE = 4


@dataclass(frozen=True)
class FuseGelu:
    """Both forms of GELU, in any association and operand order."""

    name: ClassVar[str] = "fuse-gelu"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            if node.removed or not is_op(node, *_ARGUMENTS):
                continue
            approximate, wanted = _ARGUMENTS[node.op]
            match = _match(node, wanted)
            if isinstance(match, str):
                remarks.missed(node, match)
            elif match:
                x, nodes, result = match
                fused = graph.fuse(nodes, "Gelu", [x], [result], {"approximate": approximate})
                remarks.matched(fused, f"{node.op} form of {list(x.shape)}")
        return remarks.result()


def _match(function: Node, wanted: Polynomial) -> tuple[Tensor, list[Node], Tensor] | str | None:
    """x, the nodes and their result; why it is refused; None if this is not GELU's function."""
    argument = function.inputs[0]
    for x in _ancestors(argument, _MAX_DEPTH):
        inner: list[Node] = []
        if not _equal(_polynomial(argument, x, None, inner), wanted):
            continue
        for root in _products(function.output):
            nodes: list[Node] = []
            if root.output.shape != x.shape:
                continue  # a constant of higher rank has added axes
            if _equal(_polynomial(root.output, x, function.output, nodes), _RESULT):
                members = list(dict.fromkeys([*inner, function, *nodes]))
                return leak(members, [root.output]) or (x, members, root.output)
        return f"{function.op} has GELU's argument, but its result is not 0.5 x (1 + t)"
    return None


def _ancestors(tensor: Tensor, depth: int) -> Iterator[Tensor]:
    """Tensors that ``tensor`` is arithmetic of, nearest first: the candidates for x."""
    level = [tensor]
    for _ in range(depth):
        following: list[Tensor] = []
        for each in level:
            producer = each.producer
            if is_op(producer, "Add", "Sub", "Mul", "Div", "Pow") and producer is not None:
                following += [t for t in producer.inputs if not t.is_constant]
        yield from dict.fromkeys(following)
        level = following


def _products(tensor: Tensor) -> Iterator[Node]:
    """Arithmetic nodes downstream of the function's value, along single consumers."""
    for _ in range(_MAX_DEPTH):
        consumer = tensor.consumers[0] if len(tensor.consumers) == 1 else None
        if consumer is None or not is_op(consumer, "Add", "Mul", "Div"):
            return
        yield consumer
        tensor = consumer.output


def _polynomial(
    tensor: Tensor, x: Tensor, t: Tensor | None, nodes: list[Node], depth: int = _MAX_DEPTH
) -> Polynomial | None:
    """``tensor`` as a polynomial in ``x`` and ``t``; ``nodes`` collects what computes it."""
    if tensor is x:
        return {(1, 0): 1.0}
    if tensor is t:
        return {(0, 1): 1.0}
    constant = tensor.scalar()
    if constant is not None:
        return {(0, 0): constant}
    node = tensor.producer
    if node is None or not depth or not is_op(node, "Add", "Sub", "Mul", "Div", "Pow"):
        return None
    left, right = (_polynomial(each, x, t, nodes, depth - 1) for each in node.inputs)
    if left is None or right is None:
        return None
    nodes.append(node)
    return _combined(node.op, left, right)


def _combined(op: str, left: Polynomial, right: Polynomial) -> Polynomial | None:
    if op in ("Add", "Sub"):
        sign = 1.0 if op == "Add" else -1.0
        return {
            power: left.get(power, 0.0) + sign * right.get(power, 0.0)
            for power in sorted({*left, *right})
        }
    if op == "Mul":
        return _product(left, right)
    number = right.get((0, 0)) if set(right) == {(0, 0)} else None
    if op == "Div" and number:
        return {power: value / number for power, value in left.items()}
    if op == "Pow" and number is not None and number in range(1, _MAX_DEGREE + 1):
        result: Polynomial | None = left
        for _ in range(int(number) - 1):
            result = _product(result, left) if result else None
        return result
    return None


def _product(left: Polynomial, right: Polynomial) -> Polynomial | None:
    result: Polynomial = {}
    for (x1, t1), value1 in left.items():
        for (x2, t2), value2 in right.items():
            power = (x1 + x2, t1 + t2)
            if sum(power) > _MAX_DEGREE:
                return None
            result[power] = result.get(power, 0.0) + value1 * value2
    return result


def _equal(found: Polynomial | None, wanted: Polynomial) -> bool:
    if found is None:
        return False
    terms = {power for power, value in found.items() if value}
    return terms == set(wanted) and all(close(found[power], wanted[power]) for power in wanted)
