"""What rules that write an op with others share: the steps before the last, and the last.

A rule takes a node, adds the ops that compute it before it, and puts the last one in its place. It
returns '' then, otherwise the reason for which the node stays as it is, or None where nothing is to
be done about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx

from edgefusion.compiler.graph.graph import Attribute, Graph, Node, Tensor
from edgefusion.compiler.graph.weights import Array


@dataclass(frozen=True, slots=True)
class Rewriting:
    """``node`` of ``graph``, about to be written with other ops."""

    graph: Graph
    node: Node

    def step(
        self,
        op: str | onnx.FunctionProto,
        inputs: Sequence[Tensor | None],
        shape: Sequence[int],
        attrs: Mapping[str, Attribute] | None = None,
    ) -> Tensor:
        """The result of one more op before the last, of the type that ``node`` makes."""
        kind = op if isinstance(op, str) else op.name
        wish = f"{self.node.output.name}.{kind.lower()}"
        result = self.graph.tensor(wish, shape, self.node.output.dtype)
        self.graph.add(
            op, inputs, [result], attrs, source=[self.node], name=f"{wish}_op", before=self.node
        )
        return result

    def last(
        self,
        op: str | onnx.FunctionProto,
        inputs: Sequence[Tensor | None],
        attrs: Mapping[str, Attribute] | None = None,
    ) -> str:
        """``op`` makes what ``node`` made; the '' that a rule returns."""
        self.graph.fuse([self.node], op, inputs, [self.node.output], attrs)
        return ""

    def number(self, value: float) -> Tensor:
        """A scalar of the type that ``node`` makes."""
        array: Array = np.asarray(value, self.node.output.dtype)
        return self.graph.constant(f"{self.node.output.name}.number", array)

    def numbers(self, values: Sequence[int]) -> Tensor:
        """Whole numbers: sizes, axes, bounds."""
        return self.graph.constant(
            f"{self.node.output.name}.numbers", np.asarray(list(values), np.int64)
        )

    def reshaped(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """``x`` under another shape."""
        if x.shape == tuple(shape):
            return x
        if x.is_constant:
            return self.graph.reshaped_constant(f"{x.name}.reshaped", x, shape)
        return self.step("Reshape", [x, self.numbers(shape)], shape)

    def last_reshaped(self, x: Tensor) -> str:
        """``x`` in the shape that ``node`` makes, as its result."""
        return self.last("Reshape", [x, self.numbers(self.node.output.shape)])

    def sliced(self, x: Tensor, axis: int, start: int, count: int, step: int = 1) -> Tensor:
        """``count`` elements of ``x`` along ``axis``, every ``step``-th."""
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        end = start + (count - 1) * step + 1
        bounds = [self.numbers([value]) for value in (start, end, axis, step)]
        return self.step("Slice", [x, *bounds], shape)

    def joined(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """``parts`` one after the other along ``axis``."""
        if len(parts) == 1:
            return parts[0]
        total = sum(part.shape[axis] for part in parts)
        shape = (*parts[0].shape[:axis], total, *parts[0].shape[axis + 1 :])
        return self.step("Concat", parts, shape, {"axis": axis})


LARGEST = float(np.finfo(np.float16).max)
"""The largest number that the NPU adds, multiplies by or compares with in every precision."""

Rule = Callable[[Rewriting], str | None]


def around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """``shape`` as three axes of which the second is ``axis``."""
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
