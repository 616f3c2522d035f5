"""Channels-last layout: [n, c, h, w] becomes [n, h, w, c], and transposes around attention vanish.

The NPU's tensor engine reads channels together, and attention's tokens are channels-last already:
exporters write a transpose before and after each transformer block. One walk in topological order
gives each layout-sensitive op a channels-last twin; tensors keep both forms on demand
(``passes.layout_forms``), so a Transpose is left only where one form exists and the other is
wanted: at the graph's channels-first inputs and outputs, and at ops that cannot be converted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.passes.layout_forms import Forms, add_view, is_view, to_first, to_last
from edgefusion.passes.layout_rules import ANCHORS, FOLLOWERS
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class ChannelsLast:
    """Convert image tensors to channels-last; graph inputs and outputs keep their layout."""

    name: ClassVar[str] = "channels-last"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Change ``graph`` in place; values of its inputs and outputs stay as they are."""
        remarks = Remarks(self.name)
        forms = Forms(graph)
        replaced: set[Node] = set()
        for node in graph.nodes:
            if node.op == "Transpose":
                if _transpose(forms, node):
                    remarks.matched(node, "Transpose vanishes: the other layout exists")
                continue
            kind = kind_and_tokens(node.op)[0]
            rule = ANCHORS.get(kind) or FOLLOWERS.get(kind)
            if rule is None or not _wanted(forms, node, kind):
                continue
            reason = rule(forms, node)
            if reason:
                remarks.missed(node, f"{node.op} stays channels first: {reason}")
            else:
                remarks.matched(node, f"{node.op} reads channels last")
                replaced.add(node)
        for node in _finish(graph, forms, replaced):
            where = "the graph's output" if node.output.is_output else "an op"
            remarks.missed(node, f"Transpose is left: {where} wants channels first")
        return remarks.result()


def _wanted(forms: Forms, node: Node, kind: str) -> bool:
    """Whether ``node`` converts: an anchor always, a follower if an operand is channels last."""
    data = [tensor for tensor in node.inputs if not tensor.is_absent]
    if kind in ANCHORS:
        return data[0].rank >= 3
    # A reduction may drop axes; every other follower has its layout in its result.
    rank = data[0].rank if kind.startswith("Reduce") else node.output.rank
    return rank >= 3 and any(forms.has_last(tensor) for tensor in data)


def _transpose(forms: Forms, node: Node) -> bool:
    """Use a Transpose of the exporter: as the other form of a tensor, or folded into one.

    Returns whether the node is done with; otherwise it stays, for whoever still reads its result.
    """
    x, y = node.inputs[0], node.output
    perm = node.get_ints("perm", tuple(reversed(range(x.rank))))
    if forms.has_last(x):
        composed = tuple(to_last(x.rank).index(axis) for axis in perm)
        moved = forms.last(x, node)
        if composed != tuple(range(x.rank)):
            moved = forms.move(moved, composed, node)
        forms.replace(y, moved, node)
        return True
    if x.rank >= 3 and perm == to_first(x.rank):
        forms.set_last(y, x)
    return False


def _finish(graph: Graph, forms: Forms, replaced: set[Node]) -> list[Node]:
    """Remove what has a twin, last first; who still reads it gets a Transpose (returned)."""
    transposes = []
    for node in reversed(graph.nodes):
        wanted = [tensor for tensor in node.outputs if tensor.is_output or tensor.consumers]
        if wanted and node not in replaced:
            continue
        for tensor in wanted:
            tensor.raw.inputs.clear()
            maker = _first_from_last(graph, forms, tensor, node)
            if maker.op == "Transpose":
                transposes.append(maker)
        graph.remove(node)
        if node in forms.twins:
            graph.rename(forms.twins[node], node.name)
    return transposes


def _first_from_last(graph: Graph, forms: Forms, tensor: Tensor, node: Node) -> Node:
    """Make ``tensor`` from its channels-last form."""
    last = forms.last(tensor, node)
    if is_view(last.shape, to_first(tensor.rank)):
        return add_view(graph, last, tensor, node)
    return graph.add(
        "Transpose",
        [last],
        [tensor],
        {"perm": list(to_first(tensor.rank))},
        source=[node],
        name=f"{tensor.name}_to_first",
        before=node,
    )
