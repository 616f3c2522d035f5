"""What depends on the timestep alone becomes a table with a row for each deployed timestep.

A few-step model sees a handful of timesteps, known when it is compiled. Sine, cosine, the time
embedding's network and each residual block's projection of it are then constants: their weights and
INT16 rounding go, and the host looks up the rows. A timestep that has no row reads NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.compiler.graph.refused_forms import RANDOM
from edgefusion.compiler.graph.weights import Array
from edgefusion.passes.evaluation import evaluate, read_elsewhere
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks

INPUT = "timestep"
"""The graph input with the timestep, one number."""


@dataclass(frozen=True)
class TabulateTimestep:
    """``timesteps`` that are deployed; without any, nothing happens."""

    name: ClassVar[str] = "tabulate-timestep"
    timesteps: tuple[float, ...] = ()

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Put one Gather in the place of each result that the rest of the graph reads."""
        remarks = Remarks(self.name)
        timestep = next((tensor for tensor in graph.inputs if tensor.name == INPUT), None)
        if timestep is None or not self.timesteps or not _is_one_number(timestep):
            return remarks.result()
        nodes = _dependent(graph, timestep)
        wanted = read_elsewhere(nodes)
        if not wanted:
            return remarks.result()
        feeds = [
            {timestep: np.full(timestep.shape, value, timestep.dtype)} for value in self.timesteps
        ]
        rows = evaluate(graph, nodes, wanted, feeds)
        makers = _makers(nodes, wanted)
        row = self._row(graph, timestep, makers[None] or nodes)
        for tensor, *values in zip(wanted, *rows, strict=True):
            gathered = _lookup(graph, tensor, values, row, makers[tensor])
            remarks.matched(gathered, f"a table of {len(values)} rows of {list(tensor.shape)}")
        for node in reversed(nodes):
            graph.remove(node)
        return remarks.result()

    def _row(self, graph: Graph, timestep: Tensor, source: list[Node]) -> Tensor:
        """The index of the timestep's row; that of the row of NaN for one that has none."""
        count = len(self.timesteps)

        def step(
            op: str, inputs: list[Tensor], shape: tuple[int, ...], dtype: type, **attrs: int
        ) -> Tensor:
            result = graph.tensor(f"{INPUT}.{op.lower()}", shape, np.dtype(dtype))
            graph.add(op, inputs, [result], attrs, source=source, name=f"{INPUT}_{op.lower()}")
            return result

        known = graph.constant(f"{INPUT}.known", np.array(self.timesteps, timestep.dtype))
        half = graph.constant(f"{INPUT}.half", np.array([0.5], np.float32))
        same = step("Equal", [timestep, known], (count,), np.bool_)
        # 1 where the timestep is known, and a half behind all: the largest is the row.
        score = step("Cast", [same], (count,), np.float32, to=1)
        scores = step("Concat", [score, half], (count + 1,), np.float32, axis=0)
        return step("ArgMax", [scores], (), np.int64, axis=0, keepdims=0)


def _is_one_number(tensor: Tensor) -> bool:
    return tensor.has_shape and tensor.shape in ((), (1,)) and tensor.dtype.kind in "iuf"


def _dependent(graph: Graph, timestep: Tensor) -> list[Node]:
    """Nodes that need nothing but the timestep and constants, and make no output of the graph."""
    known = {timestep}
    nodes = []
    for node in graph.nodes:
        operands = [tensor for tensor in node.inputs if not tensor.is_absent]
        if not any(tensor in known for tensor in operands) or node.op in RANDOM:
            continue
        if not all(tensor in known or tensor.is_constant for tensor in operands):
            continue
        if any(tensor.is_output for tensor in node.outputs):
            continue
        nodes.append(node)
        known.update(node.outputs)
    return nodes


def _makers(nodes: list[Node], wanted: list[Tensor]) -> dict[Tensor | None, list[Node]]:
    """Which of ``nodes`` a table stands for, by its tensor: those that it alone needs, or the one
    that makes it where there are none such, as with the halves of a Split. None: what several
    share, which may be nothing."""
    leads: dict[Node, set[Tensor]] = {}
    for node in reversed(nodes):
        leads[node] = {tensor for tensor in node.outputs if tensor in wanted}
        leads[node].update(*(leads.get(c, ()) for t in node.outputs for c in t.consumers))
    makers: dict[Tensor | None, list[Node]] = {tensor: [] for tensor in (None, *wanted)}
    for node in nodes:
        makers[next(iter(leads[node])) if len(leads[node]) == 1 else None].append(node)
    for tensor in wanted:
        if tensor.producer is not None:
            makers[tensor] = makers[tensor] or [tensor.producer]
    return makers


def _lookup(
    graph: Graph, tensor: Tensor, values: list[Array], row: Tensor, source: list[Node]
) -> Node:
    missing = np.full(tensor.shape, np.nan if tensor.dtype.kind == "f" else 0, tensor.dtype)
    table = graph.constant(f"{tensor.name}.table", np.stack([*values, missing]))
    result = graph.tensor(f"{tensor.name}.row", tensor.shape, tensor.dtype)
    node = graph.add("Gather", [table, row], [result], {"axis": 0}, source=source)
    graph.rewire(tensor, result)
    return node
