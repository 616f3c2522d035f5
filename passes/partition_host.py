"""Mark what runs on the host: ops that no legality rule admits, and small work around them.

Neighbouring host ops become one group, annotated ``host_partition`` (its name) and ``host_reason``;
``frontend.placement.host_groups`` gives them back as data for reports and the host library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgefusion.compiler.frontend.placement import group_host_nodes, host_nodes
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.names import HOST_GROUP, HOST_REASON
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class PartitionHost:
    """The last pass: afterwards every op is the NPU's, or in a named host group."""

    name: ClassVar[str] = "partition-host"

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """Annotate ``graph``.

        Raises:
            UnsupportedOpError: an op that neither the NPU nor ONNX Runtime can run.
        """
        remarks = Remarks(self.name)
        changed = False
        for node in graph.nodes:
            changed |= node.annotations.pop(HOST_GROUP, None) is not None
            node.annotations.pop(HOST_REASON, None)
        for group in group_host_nodes(graph, host_nodes(graph, context.machine)):
            for node, reason in zip(group.nodes, group.reasons, strict=True):
                node.annotations[HOST_GROUP] = group.name
                node.annotations[HOST_REASON] = reason
                remarks.matched(node, f"{node.op} runs on the host ({group.name}): {reason}")
                changed = True
        return remarks.result(changed)
