"""Between heads, [n, h, l, d], and the tokens that attention works on, [1, l, n*h*d].

Heads do not look at each other, so those of all n images are heads of one attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from edgefusion.compiler.graph.graph import Graph, Node, Tensor


@dataclass(frozen=True, slots=True)
class TokenWriter:
    """Adds views and transposes to ``graph`` before ``node``, whose origin they have."""

    graph: Graph
    node: Node

    def tokens(self, x: Tensor, *, transposed: bool = False) -> Tensor:
        """x[..., l, d], or x[..., d, l] where ``transposed``, as [1, l, heads*d]."""
        heads, (first, second) = prod(x.shape[:-2]), x.shape[-2:]
        moved = self.view(x, (heads, first, second))
        if transposed:
            return self.view(self.moved(moved, (2, 0, 1)), (1, second, heads * first))
        return self.view(self.moved(moved, (1, 0, 2)), (1, first, heads * second))

    def heads(self, tokens: Tensor, shape: Sequence[int]) -> Tensor:
        """``tokens`` [1, l, heads*d] as [heads, l, d], which is ``shape`` [..., l, d] but for
        its leading axes."""
        heads, (length, depth) = prod(shape[:-2]), shape[-2:]
        return self.moved(self.view(tokens, (length, heads, depth)), (1, 0, 2))

    def sizes(self, shape: Sequence[int]) -> Tensor:
        """``shape`` as what Reshape and Expand read."""
        return self.graph.constant(f"{self.node.name}.shape", np.asarray(list(shape), np.int64))

    def mask(self, mask: Tensor, lead: Sequence[int]) -> Tensor:
        """``mask``, which broadcasts to scores [*lead, lq, lk], for as many heads: [lq or 1, lk] if
        it is the same for all, else [1, heads, lq or 1, lk]."""
        rows = mask.shape[-2:] if mask.rank > 1 else (1, *mask.shape)
        own = mask.shape[:-2]
        if prod(own) == 1:
            return self.view(mask, rows)
        padded = (1,) * (len(lead) - len(own)) + own
        shape = (1, prod(lead), *rows)
        if padded == tuple(lead):
            return self.view(mask, shape)
        full = (*lead, *rows)
        if mask.is_constant:
            values = mask.lazy
            return self.graph.deferred_constant(
                f"{mask.name}.heads",
                shape,
                mask.dtype,
                lambda: np.broadcast_to(values.load(), full).reshape(shape).copy(),
            )
        return self.view(self._step("Expand", [mask, self.sizes(full)], full), shape)

    def view(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """``x`` under another shape."""
        if x.shape == tuple(shape):
            return x
        if x.is_constant:
            return self.graph.reshaped_constant(f"{x.name}.view", x, shape)
        return self._step("Reshape", [x, self.sizes(shape)], shape)

    def moved(self, x: Tensor, perm: tuple[int, ...]) -> Tensor:
        """``x`` with its axes in the order ``perm``."""
        shape = tuple(x.shape[axis] for axis in perm)
        return self._step("Transpose", [x], shape, perm=list(perm))

    def product(self, x: Tensor, factor: Tensor) -> Tensor:
        """``x`` times what broadcasts to it."""
        return self._step("Mul", [x, factor], x.shape)

    def _step(
        self, op: str, inputs: Sequence[Tensor], shape: Sequence[int], **attrs: list[int]
    ) -> Tensor:
        made = self.graph.tensor(f"{inputs[0].name}.{op.lower()}", shape, inputs[0].dtype)
        self.graph.add(op, inputs, [made], attrs, source=[self.node], before=self.node)
        return made
