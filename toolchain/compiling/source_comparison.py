"""The comparison of a component with its source, as a stage of its compilation.

Sources that cannot be found again by name leave their reference vectors in the bundle. For others
the comparison is made where it costs little, as ``edgefusion verify`` makes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.check import GRAPH, REFERENCE, WEIGHTS
from edgefusion.compiler.bundle.reference import ReferenceVectors
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.float_reference import (
    exact_graph,
    is_found_by_name,
    unrounded,
)
from edgefusion.toolchain.accuracy.import_check import (
    ExactGraph,
    ImportCheck,
    check_import,
    record_source,
)

if TYPE_CHECKING:
    from edgefusion.compiler.graph.graph import Graph
    from edgefusion.models.source import Source
    from edgefusion.passes.pass_base import Pass
    from edgefusion.runtime.machine import Machine

CHEAP_BYTES = 64 << 20
"""Of weights: with fewer, a network in FP32 takes moments."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The outcome, the vectors, and their member of the bundle where it keeps them."""

    check: ImportCheck
    vectors: ReferenceVectors | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceComparison:
    """Compares ``component`` of ``source``, exported to ``exported``, in ``folder``."""

    source: Source
    component: str
    exported: Path
    machine: Machine
    timesteps: tuple[float, ...]
    folder: Path
    say: Say

    @property
    def _is_cheap(self) -> bool:
        data = self.exported.with_name(f"{self.exported.name}.data")
        weights = data.stat().st_size if data.exists() else 0
        return weights + self.exported.stat().st_size <= CHEAP_BYTES

    @property
    def _snapshot(self) -> Path:
        return self.folder / GRAPH

    def observer(self, passes: Sequence[Pass]) -> Callable[[str, Graph], None] | None:
        """Keeps the graph as it is before ``passes`` begin to round, where that is cheap."""
        if not self._is_cheap:
            return None
        last = unrounded(passes)[-1].name

        def keep(name: str, graph: Graph) -> None:
            if name == last:
                with disk_errors(self.folder):
                    self.folder.mkdir(parents=True, exist_ok=True)
                    graph.save(self._snapshot, self.folder / WEIGHTS)

        return keep

    def compare(self, compiled: Path, earlier: Mapping[str, ReferenceVectors]) -> Compared:
        """Compare the graph ``compiled``, weights beside it; ``earlier`` are the vectors of the
        components before it. Raises NumericGateError for a graph that was not understood."""
        kept = not is_found_by_name(self.source)
        if not kept and not self._is_cheap:
            return self.left_out("verify does it, as the source is found by its name")
        component = self.component
        record = record_source(
            self.source, component, self.exported, self.timesteps, earlier, self.say
        )

        def exact() -> Path:
            place, made_by = self.folder, (self.machine, self.timesteps)
            return exact_graph(self.exported, component, *made_by, place, self.say)

        made = self._snapshot if self._snapshot.exists() else None
        rounded = compiled if kept else None
        check = check_import(component, record, rounded, ExactGraph(made, exact), self.say)
        if not kept or record.vectors is None:
            return Compared(check, record.vectors)
        file = compiled.with_name(REFERENCE)
        with disk_errors(file):
            file.write_bytes(record.vectors.to_bytes())
        return Compared(check, record.vectors, {f"{component}/{REFERENCE}": file})

    def left_out(self, reason: str) -> Compared:
        """No comparison."""
        return Compared(ImportCheck(self.component, remark=reason))
