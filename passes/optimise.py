"""An exported component, optimised: the one place that reads an export and runs passes over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from edgefusion.compiler.graph.graph import Graph
    from edgefusion.passes.pass_base import Pass
    from edgefusion.passes.pass_manager import PassRecord
    from edgefusion.runtime.machine import Machine


def optimise(
    exported: Path,
    component: str,
    machine: Machine,
    passes: Sequence[Pass],
    say: Say,
    dump_dir: Path | None = None,
    observe: Callable[[str, Graph], None] | None = None,
) -> tuple[Graph, tuple[PassRecord, ...]]:
    """The graph of the ``.onnx`` file ``exported`` after ``passes`` for ``machine``, and what each
    of them did.

    ``dump_dir`` receives the graph's text after each pass, ``observe`` the pass's name and the
    graph. Raises InputError for an invalid graph, DoesNotFitError for a full disk.
    """
    from edgefusion.compiler.graph.graph import Graph
    from edgefusion.passes.pass_base import PassContext
    from edgefusion.passes.pass_manager import PassManager

    def report(number: int, count: int, name: str) -> None:
        say(f"{component}: pass {number} of {count}, {name}")

    say(f"{component}: reading the graph")
    graph = Graph.load(exported)
    with disk_errors(dump_dir or exported):
        manager = PassManager(passes, dump_dir, report, observe=observe)
        records = manager.run(graph, PassContext(machine, component))
    return graph, records
