"""Ops that the NPU does not have by name, written with those that it has.

Runs when patterns have been matched, which look for the exporters' own ops: what is left of these
has one rule each (``rewrite_values``, ``rewrite_moves``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks
from edgefusion.passes.rewrite_moves import MOVES
from edgefusion.passes.rewrite_values import VALUES
from edgefusion.passes.rewriting import Rewriting

RULES = {**VALUES, **MOVES}


@dataclass(frozen=True)
class RewriteOps:
    """Standard ops on floating-point values; integers are the host's."""

    name: ClassVar[str] = "rewrite-ops"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every op that has a rule."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            rule = None if node.domain else RULES.get(node.op)
            if rule is None or not np.issubdtype(node.output.dtype, np.floating):
                continue
            result, op = node.output, node.op
            reason = rule(Rewriting(graph, node))
            if reason is None:
                continue
            if reason:
                remarks.missed(node, f"{op} stays: {reason}")
            elif (made := result.producer) is not None:
                remarks.matched(made, f"{op} is written with other ops")
        return remarks.result()
