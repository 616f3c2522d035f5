"""What a pass is, and what it reports.

To write one: a frozen dataclass whose fields are its options, ``name`` the stem of its file with
dashes, and ``run``, which changes the graph in place. It says for every place it changed, and for
every place that looked right and was not, a ``Remark`` with the reason. The graph is verified
before and after ``run``, not during.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from edgefusion.compiler.bundle.remarks import Remark, RemarkKind
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node
from edgefusion.runtime.machine import Machine

__all__ = ["Pass", "PassContext", "PassResult", "Remark", "Remarks"]


@dataclass(frozen=True, slots=True)
class PassResult:
    """Whether the graph is another one now, and the remarks."""

    changed: bool
    remarks: tuple[Remark, ...] = ()

    @property
    def matched(self) -> int:
        """Number of rewrites."""
        return sum(remark.kind == "matched" for remark in self.remarks)

    @property
    def missed(self) -> int:
        """Number of near-matches that were refused."""
        return sum(remark.kind == "missed" for remark in self.remarks)


@dataclass(frozen=True, slots=True)
class PassContext:
    """What passes may know beside the graph.

    ``machine`` is what the graph is compiled for; ``component`` is text_encoder, unet or
    vae_decoder (or '' for a graph of the user's own).
    """

    machine: Machine
    component: str = ""


class Pass(Protocol):
    """The contract; passes are frozen dataclasses that satisfy it."""

    name: ClassVar[str]

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """Change ``graph`` in place."""
        ...


@dataclass
class Remarks:
    """Collects a pass's remarks while it runs."""

    pass_name: str
    items: list[Remark] = field(default_factory=list)

    def matched(self, node: Node, reason: str) -> None:
        """A rewrite, told by the node that came of it."""
        self._add("matched", node, reason)

    def missed(self, node: Node, reason: str) -> None:
        """A near-match that was refused; the node stays as it was."""
        self._add("missed", node, reason)

    def result(self, changed: bool | None = None) -> PassResult:
        """The pass's result; by default it changed the graph if it matched anything."""
        if changed is None:
            changed = any(remark.kind == "matched" for remark in self.items)
        return PassResult(changed, tuple(self.items))

    def extend(self, remarks: Iterable[Remark]) -> None:
        """Take over remarks from a part of the pass."""
        self.items.extend(remarks)

    def _add(self, kind: RemarkKind, node: Node, reason: str) -> None:
        self.items.append(Remark(self.pass_name, kind, node.name, node.scope, reason, node.origin))
