"""Runs passes in the order given, and keeps them honest.

Before and after every pass the graph is verified; a pass that says it changed nothing must have
changed nothing, and the other way round. Time, rewrites and remarks are recorded for
``--time-passes`` and ``--remarks``; ``dump_dir`` receives ``00-source.txt``,
``07-fuse-attention.txt`` and so on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.text import graph_text
from edgefusion.compiler.graph.verify_graph import InvalidGraphError, verify_graph
from edgefusion.passes.pass_base import Pass, PassContext, Remark
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.files import write_whole

Progress = Callable[[int, int, str], None]
"""Called with the number of the pass that begins (from 1), how many there are, and its name."""


class PassContractError(Exception):
    """A pass broke the contract; a defect of ours, never the user's fault."""


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did. ``duration_s`` is the pass alone, without verification."""

    name: str
    changed: bool
    matched: int
    missed: int
    nodes_before: int
    nodes_after: int
    duration_s: float
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class PassManager:
    """An explicit sequence of passes and how to watch it run."""

    passes: Sequence[Pass]
    dump_dir: Path | None = None
    progress: Progress | None = None
    verify: bool = True
    observe: Callable[[str, Graph], None] | None = field(default=None, repr=False)
    """Called after each pass with its name; tests compare outputs with ONNX Runtime here."""

    def run(self, graph: Graph, context: PassContext) -> tuple[PassRecord, ...]:
        """Run all passes over ``graph``, in place.

        Raises:
            InputError: the source graph is invalid.
            PassContractError: a pass left an invalid graph or misreported whether it changed it.
        """
        try:
            verify_graph(graph)
        except InvalidGraphError as defect:
            raise InputError(
                f"the source graph is invalid; check the model with onnx.checker:\n{defect}"
            ) from None
        text = graph_text(graph)
        self._dump(0, "source", text)
        records = []
        for number, each in enumerate(self.passes, start=1):
            if self.progress:
                self.progress(number, len(self.passes), each.name)
            record, text = self._run_one(each, graph, context, text)
            records.append(record)
            self._dump(number, each.name, text)
            if self.observe:
                self.observe(each.name, graph)
        return tuple(records)

    def _run_one(
        self, each: Pass, graph: Graph, context: PassContext, before: str
    ) -> tuple[PassRecord, str]:
        nodes_before = len(graph.nodes)
        start = time.perf_counter()
        result = each.run(graph, context)
        duration_s = time.perf_counter() - start
        self._verify(graph, each)
        after = graph_text(graph)
        if self.verify and result.changed != (after != before):
            did, said = ("changed", "did not") if after != before else ("did not change", "did")
            raise PassContractError(
                f"pass {each.name} {did} the graph but reports that it {said}; "
                "fix the value of PassResult.changed"
            )
        record = PassRecord(
            name=each.name,
            changed=result.changed,
            matched=result.matched,
            missed=result.missed,
            nodes_before=nodes_before,
            nodes_after=len(graph.nodes),
            duration_s=duration_s,
            remarks=result.remarks,
        )
        return record, after

    def _verify(self, graph: Graph, each: Pass) -> None:
        if not self.verify:
            return
        try:
            verify_graph(graph)
        except InvalidGraphError as defect:
            raise PassContractError(
                f"the graph is invalid after pass {each.name}:\n{defect}"
            ) from defect

    def _dump(self, number: int, name: str, text: str) -> None:
        if self.dump_dir:
            write_whole(self.dump_dir / f"{number:02d}-{name}.txt", text.encode())
