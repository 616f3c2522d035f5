"""Cases for passes that come after others: run them in a row, execute each, look at the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.pass_base import Pass
from edgefusion.passes.pass_manager import PassManager
from edgefusion.runtime.machine import Machine
from tests.graph_cases import CONTEXT, Outcome, Weights, assert_same, execute, parse, random_feeds


def chained(
    passes: Sequence[Pass],
    text: str,
    weights: Weights | None = None,
    *,
    component: str = "",
    tolerance: float = 2e-5,
    machine: Machine = CONTEXT.machine,
) -> Outcome:
    """Run ``passes`` over a case and compare its values with the source's after each."""
    model = parse(text, weights)
    feeds = random_feeds(model)
    wanted = execute(model, feeds)
    graph = Graph.from_model(model)

    def compare(_: str, now: Graph) -> None:
        assert_same(execute(now.to_model(), feeds), wanted, tolerance)

    context = replace(CONTEXT, component=component, machine=machine)
    records = PassManager(passes, observe=compare).run(graph, context)
    return Outcome(graph, records[-1])


def reasons(outcome: Outcome, kind: str) -> list[str]:
    """What the last pass said of its matches, or of its misses."""
    return [remark.reason for remark in outcome.record.remarks if remark.kind == kind]
