"""Images of a batch go through convolutions, pools and norms one after the other.

x[n, c, h, w], n > 1, becomes n tensors of one image at the first op that takes one image, and stays
so through everything that looks at each image alone; what works on rows of any number (products
with weights, norms of the last axis) and the graph's outputs get them joined again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from edgefusion.compiler.frontend.legality import REDUCTIONS
from edgefusion.compiler.frontend.legality_rules import reduced_axes
from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.passes.layout_forms import VIEW_OPS
from edgefusion.passes.layout_rules import ANCHORS
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks
from edgefusion.runtime.functions import BINARY_BY_OP, UNARY_BY_OP

MAX_IMAGES = 16
"""Each image is so many more ops to compile."""

_ELEMENTWISE = frozenset((*UNARY_BY_OP, *BINARY_BY_OP))
_ALONG_AXIS: Mapping[str, int] = {"Concat": 0, "Softmax": -1, "Split": 0}
"""Ops along one axis, with its default."""


@dataclass(frozen=True)
class SplitBatch:
    """Runs while images are channels first, after all that patterns are looked for in."""

    name: ClassVar[str] = "split-batch"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every op that takes one image, and those that follow as they are."""
        remarks = Remarks(self.name)
        images = _Images(graph)
        split: list[Node] = []
        for node in graph.nodes:
            if not node.outputs or not node.output.has_shape or node.output.rank < 2:
                continue
            count = node.output.shape[0]
            if count == 1 or not (_takes_one_image(node) or images.follow(node)):
                continue
            if count > MAX_IMAGES:
                remarks.missed(node, f"{count} images, more than {MAX_IMAGES}")
                continue
            made = images.split(node, count)
            remarks.matched(made, f"{count} images, one after the other")
            split.append(node)
        images.join(split)
        return remarks.result()


def _takes_one_image(node: Node) -> bool:
    """Whether the NPU runs ``node`` for one image only, whose axis stays the first."""
    x = node.inputs[0] if node.inputs else None
    if x is None or x.is_absent or x.rank < 3 or x.shape[0] != node.output.shape[0]:
        return False
    if node.op in REDUCTIONS:
        axes = reduced_axes(node)
        return axes is not None and 0 not in axes and axes != (x.rank - 1,)
    return kind_and_tokens(node.op)[0] in ANCHORS


def _is_view(node: Node) -> bool:
    return node.op in VIEW_OPS and not node.domain


@dataclass
class _Images:
    """The images of tensors that have been taken apart."""

    graph: Graph
    parts: dict[Tensor, list[Tensor]] = field(default_factory=dict)

    def follow(self, node: Node) -> bool:
        """Whether ``node`` looks at each image alone, and has one that lies alone already."""
        if not any(tensor in self.parts for tensor in node.inputs):
            return False
        x, y = node.inputs[0], node.output
        if node.op in _ELEMENTWISE:
            return True
        if node.domain:
            return False
        if node.op in _ALONG_AXIS:
            return node.get_int("axis", _ALONG_AXIS[node.op]) % y.rank != 0
        if node.op == "Transpose":
            return node.get_ints("perm", tuple(reversed(range(x.rank))))[0] == 0
        if node.op == "Slice":
            axes = node.input(3)
            listed = axes.values() if axes is not None and axes.is_constant else np.zeros(1)
            return not np.any(listed % x.rank == 0)
        return _is_view(node) and x.shape[0] == y.shape[0]

    def split(self, node: Node, count: int) -> Node:
        """``node`` for each image; the last of those."""
        graph = self.graph
        op = graph.functions[node.op] if node.domain else node.op
        attrs = node.attrs
        if _is_view(node):
            op, attrs = "Reshape", {}
        results = [tensor for tensor in node.outputs if not tensor.is_absent]
        made: list[Node] = []
        for image in range(count):
            inputs = self._operands(node, image)
            outputs = [
                graph.tensor(f"{tensor.name}.image{image}", (1, *tensor.shape[1:]), tensor.dtype)
                for tensor in results
            ]
            name = f"{node.name}.image{image}"
            made.append(
                graph.add(op, inputs, outputs, attrs, source=[node], name=name, before=node)
            )
        for index, tensor in enumerate(results):
            self.parts[tensor] = [each.outputs[index] for each in made]
        return made[-1]

    def _operands(self, node: Node, image: int) -> list[Tensor | None]:
        """What ``node`` reads for one image."""
        if _is_view(node):
            shape = self._numbers(node, (1, *node.output.shape[1:]))
            return [self._part(node.inputs[0], image, node), shape]
        data = len(node.inputs) if node.op in (*_ELEMENTWISE, "Concat") else 1
        return [self._operand(node, index, image, data) for index in range(len(node.inputs))]

    def _operand(self, node: Node, index: int, image: int, data: int) -> Tensor | None:
        """The first ``data`` operands are images where they have as many as the result."""
        tensor = node.inputs[index]
        if tensor.is_absent:
            return None
        if node.op == "Resize" and index:
            return self._of_resize(node, tensor, index)
        whole = tensor.rank == node.output.rank and tensor.shape[:1] == node.output.shape[:1]
        return self._part(tensor, image, node) if index < data and (whole or not index) else tensor

    def _of_resize(self, node: Node, tensor: Tensor, index: int) -> Tensor:
        """Sizes are those of one image, scales of all."""
        if index < 3 or not tensor.is_constant or "axes" in node.attrs:
            return tensor
        return self._numbers(node, [1, *tensor.values().tolist()[1:]])

    def _part(self, tensor: Tensor, image: int, node: Node) -> Tensor:
        """One image of ``tensor``, cut out before ``node`` where it does not lie alone."""
        if tensor.shape[:1] == (1,):
            return tensor
        known = self.parts.setdefault(tensor, [])
        if len(known) <= image:
            known.append(self._cut(tensor, image, node))
        return known[image]

    def _cut(self, tensor: Tensor, image: int, node: Node) -> Tensor:
        shape = (1, *tensor.shape[1:])
        wish = f"{tensor.name}.image{image}"
        if tensor.is_constant:
            values = tensor.lazy
            return self.graph.deferred_constant(
                wish, shape, tensor.dtype, lambda: values.load()[image : image + 1]
            )
        part = self.graph.tensor(wish, shape, tensor.dtype)
        bounds = [self._numbers(node, [value]) for value in (image, image + 1, 0)]
        source = [node] if tensor.producer is None else [tensor.producer]
        self.graph.add("Slice", [tensor, *bounds], [part], source=source, before=node)
        return part

    def _numbers(self, node: Node, values: Sequence[Any]) -> Tensor:
        return self.graph.constant(f"{node.name}.numbers", np.asarray(list(values), np.int64))

    def join(self, split: Sequence[Node]) -> None:
        """The results of ``split`` that others read, whole again; the nodes go."""
        gone = set(split)
        for node in reversed(split):
            for tensor in node.outputs:
                if tensor.is_absent or not (
                    tensor.is_output or any(c not in gone for c in tensor.consumers)
                ):
                    continue
                tensor.raw.inputs.clear()
                self.graph.add(
                    "Concat", self.parts[tensor], [tensor], {"axis": 0}, source=[node], before=node
                )
            node.raw.inputs.clear()
        for node in split:
            self.graph.remove(node)
