"""Ops that change nothing go: identities, casts to the same type, choices that are always the same,
results nobody reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.passes.axis_atoms import dims, through
from edgefusion.passes.matching import is_op, made_by, other_operand
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks
from edgefusion.runtime.functions import BINARY_BY_OP

_VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True)
class RemoveIdentities:
    """``merge_views`` also makes one Reshape of two in a row.

    Not before patterns were matched: it would take apart the views that they look for.
    """

    name: ClassVar[str] = "remove-identities"
    merge_views: bool = False

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match, in order, so that chains collapse in one go."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            if node.removed:
                continue
            if is_op(node, "Concat") and any(0 in tensor.shape for tensor in node.inputs):
                node = _without_empty_parts(graph, node, remarks)  # noqa: PLW2901
            reason, kept = _does_nothing(node), node.inputs[0] if node.inputs else None
            if (chosen := _always_chosen(node)) is not None:
                reason, kept = "Where that always chooses the same", chosen
            if reason and kept is not None and _bypassable(node, kept):
                remarks.matched(node, reason)
                graph.rewire(node.output, kept)
                graph.remove(node)
            elif reason:
                remarks.missed(node, f"{reason}, but it names a result of the graph")
            elif self.merge_views and _merge_reshapes(graph, node):
                remarks.matched(node, "a view of a view is one view")
        for node in graph.prune():
            remarks.matched(node, "its result is not used")
        return remarks.result()


def _does_nothing(node: Node) -> str:
    """Why ``node`` is an identity; '' if it is not."""
    if node.domain or not node.inputs or not node.outputs:
        return ""
    x, y = node.inputs[0], node.output
    if node.op == "Identity":
        return "Identity"
    if node.op == "Dropout" and len(node.outputs) == 1 and node.input(2) is None:
        return "Dropout outside training"
    if node.op == "Cast" and x.dtype == y.dtype:
        return "Cast to the type it has"
    if node.op in (*_VIEWS, "Expand") and x.shape == y.shape:
        return f"{node.op} to the shape it has"
    if node.op == "Expand" and y.consumers and all(_repeats(each, y) for each in y.consumers):
        return "Expand of what its readers repeat themselves"
    if node.op == "Transpose":
        # Named axes tell whether elements move; axes of size 1 do not count.
        before = dims(*([(str(axis), size)] for axis, size in enumerate(x.shape)))
        after = through(before, node)
        if x.shape == y.shape and after == before:
            return "Transpose that moves nothing"
    if node.op == "Concat" and len(node.inputs) == 1:
        return "Concat of one operand"
    if node.op == "Slice" and x.shape == y.shape and _forward(node):
        return "Slice of everything"
    return ""


def _always_chosen(node: Node) -> Tensor | None:
    """What a Where chooses everywhere, by a condition that is known, and as it is."""
    if not is_op(node, "Where") or not node.inputs[0].is_constant:
        return None
    condition = node.inputs[0].values()
    if not condition.size or condition.any() != condition.all():
        return None
    kept = node.inputs[1 if condition.all() else 2]
    return kept if kept.shape == node.output.shape else None


def _repeats(reader: Node, expanded: Tensor) -> bool:
    """Whether ``reader`` makes the same of what is expanded: its other operand has all elements."""
    if reader.domain or reader.op not in BINARY_BY_OP or len(reader.inputs) != 2:
        return False
    other = other_operand(reader, expanded)
    return other is not None and other.shape == reader.output.shape


def _forward(node: Node) -> bool:
    """Whether a slice's steps are known to be 1; a step of -1 reverses."""
    steps = node.input(4)
    return steps is None or (steps.is_constant and bool(np.all(steps.values() == 1)))


def _bypassable(node: Node, x: Tensor) -> bool:
    """Whether ``x`` may replace the result: not if that would leave a graph output without
    maker."""
    y = node.output
    return not y.is_output or (x.producer is not None and not x.is_output)


def _without_empty_parts(graph: Graph, concat: Node, remarks: Remarks) -> Node:
    """The concatenation of what is not empty; ``concat`` itself if everything is."""
    parts = [tensor for tensor in concat.inputs if 0 not in tensor.shape]
    if not parts:
        return concat
    remarks.matched(concat, f"{len(concat.inputs) - len(parts)} of its operands are empty")
    return graph.fuse([concat], "Concat", parts, [concat.output], concat.attrs)


def _merge_reshapes(graph: Graph, node: Node) -> bool:
    """Let a view of a view read what the first one reads."""
    inner = made_by(node.inputs[0], *_VIEWS) if is_op(node, *_VIEWS) else None
    if inner is None:
        return False
    result = node.output
    shape = graph.constant(f"{result.name}.shape", np.asarray(result.shape, np.int64))
    graph.fuse([inner, node], "Reshape", [inner.inputs[0], shape], [result], {"allowzero": 1})
    return True
