"""Masks that may leave a query nothing to attend to, made of numbers that a softmax can take.

Exporters write ``Where(IsNaN(p), 0, p)`` behind the softmax of scores that a mask may make minus
infinity in a whole row. With a mask of finite numbers such a row is not NaN, and a factor of 0 or 1
for each query, which follows from the mask alone, makes it the zeros that were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from edgefusion.compiler.graph.graph import Graph, Tensor

LOWEST = -3e4
"""exp(-3e4) is 0 in every type, and FP16 holds it and a score below it."""


@dataclass(frozen=True, slots=True)
class Guards:
    """What has been made of each mask of ``graph``: layers share them."""

    graph: Graph
    _made: dict[Tensor, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _rows: dict[Tensor, Tensor] = field(default_factory=dict)

    def of(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """``mask`` [..., lq, lk] not below ``LOWEST``, and [..., lq, 1], 1 where there is anything
        to attend to, else 0."""
        if mask not in self._made:
            self._made[mask] = self._finite(mask), self._attended(mask)
        return self._made[mask]

    def rows(self, attended: Tensor) -> Tensor:
        """``attended``, the same for all heads, as [n or 1, lq or 1, 1]."""
        if attended not in self._rows:
            rows = attended.shape[-2] if attended.rank > 1 else 1
            shape = (prod(attended.shape[:-2]), rows, 1)
            sizes = self.graph.constant(f"{attended.name}.shape", np.asarray(shape, np.int64))
            self._rows[attended] = self._step("Reshape", [attended, sizes], shape, attended.dtype)
        return self._rows[attended]

    def _finite(self, mask: Tensor) -> Tensor:
        lowest = self._lowest(mask)
        is_above = self._step("Greater", [mask, lowest], mask.shape, np.dtype(bool))
        return self._step("Where", [is_above, mask, lowest], mask.shape, mask.dtype)

    def _attended(self, mask: Tensor) -> Tensor:
        shape = (*mask.shape[:-1], 1)
        axes = self.graph.constant(f"{mask.name}.keys", np.asarray([mask.rank - 1], np.int64))
        largest = self._step("ReduceMax", [mask, axes], shape, mask.dtype, keepdims=1)
        is_any = self._step("Greater", [largest, self._lowest(mask)], shape, np.dtype(bool))
        return self._step("Cast", [is_any], shape, mask.dtype, to=1)

    def _lowest(self, mask: Tensor) -> Tensor:
        return self.graph.constant(f"{mask.name}.lowest", np.asarray(LOWEST, mask.dtype))

    def _step(
        self,
        op: str,
        inputs: list[Tensor],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        **attrs: int,
    ) -> Tensor:
        mask = next(tensor for tensor in inputs if not tensor.is_constant)
        made = self.graph.tensor(f"{mask.name}.{op.lower()}", shape, dtype)
        source = [mask.producer] if mask.producer is not None else []
        self.graph.add(op, inputs, [made], attrs, source=source, name=f"{made.name}_op")
        return made
