"""The pass manager: order, records, dumps, and passes that break the contract."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.fuse_geglu import FuseGeglu
from edgefusion.passes.fuse_silu import FuseSilu
from edgefusion.passes.pass_base import Pass, PassContext, PassResult, Remarks
from edgefusion.passes.pass_manager import PassContractError, PassManager
from edgefusion.runtime.errors import InputError
from tests.graph_cases import CONTEXT, parse

TEXT = "g (float[2, 8] x) => (float[2, 8] y) { s = Sigmoid(x) y = Mul(x, s) }"


@pytest.fixture
def graph() -> Graph:
    return Graph.from_model(parse(TEXT))


def test_records_what_each_pass_did(graph: Graph) -> None:
    first, second = PassManager([FuseSilu(), FuseGeglu()]).run(graph, CONTEXT)
    assert (first.name, first.changed, first.matched, first.missed) == ("fuse-silu", True, 1, 0)
    assert (first.nodes_before, first.nodes_after) == (2, 1)
    assert first.duration_s > 0
    assert (second.name, second.changed, second.matched) == ("fuse-geglu", False, 0)


def test_remarks_say_where_and_why(graph: Graph) -> None:
    (record,) = PassManager([FuseSilu()]).run(graph, CONTEXT)
    (remark,) = record.remarks
    assert remark.origin == ("Sigmoid_s", "Mul_y")
    assert str(remark) == "fuse-silu: matched Mul_y: SiLU of [2, 8]"


def test_dumps_are_numbered_and_readable(graph: Graph, tmp_path: Path) -> None:
    PassManager([FuseSilu(), FuseGeglu()], dump_dir=tmp_path / "ir").run(graph, CONTEXT)
    dumps = sorted(path.name for path in (tmp_path / "ir").iterdir())
    assert dumps == ["00-source.txt", "01-fuse-silu.txt", "02-fuse-geglu.txt"]
    assert "edgefusion.SiLU(%x)" in (tmp_path / "ir" / "01-fuse-silu.txt").read_text()
    assert "Sigmoid(%x)" in (tmp_path / "ir" / "00-source.txt").read_text()


def test_progress_and_observation(graph: Graph) -> None:
    progress: list[tuple[int, int, str]] = []
    observed: list[tuple[str, int]] = []
    PassManager(
        [FuseSilu(), FuseGeglu()],
        progress=lambda *step: progress.append(step),
        observe=lambda name, graph: observed.append((name, len(graph.nodes))),
    ).run(graph, CONTEXT)
    assert progress == [(1, 2, "fuse-silu"), (2, 2, "fuse-geglu")]
    assert observed == [("fuse-silu", 1), ("fuse-geglu", 1)]


@dataclass(frozen=True)
class Liar:
    """Reports the opposite of what it does."""

    name: ClassVar[str] = "liar"
    change: bool = True

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        if self.change:
            graph.nodes[0].annotations["seen"] = "yes"
        return PassResult(changed=not self.change)


@pytest.mark.parametrize("change", [True, False])
def test_misreported_changes_are_found(graph: Graph, change: bool) -> None:
    with pytest.raises(PassContractError, match="pass liar"):
        PassManager([Liar(change)]).run(graph, CONTEXT)


@dataclass(frozen=True)
class Breaker:
    """Leaves a graph with an operand that nothing makes."""

    name: ClassVar[str] = "breaker"

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        graph.nodes[1].set_input(0, graph.tensor("loose", (2, 8), np.dtype(np.float32)))
        return PassResult(changed=True)


def test_an_invalid_graph_is_found_and_the_pass_named(graph: Graph) -> None:
    with pytest.raises(PassContractError, match=r"(?s)after pass breaker:.*'loose' is made by"):
        PassManager([FuseGeglu(), Breaker()]).run(graph, CONTEXT)


def test_an_invalid_source_is_the_users_to_mend() -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    graph = Graph.from_model(model)
    graph.nodes[0].raw.op = "Rectify"
    with pytest.raises(InputError, match=r"(?s)source graph is invalid.*no such standard operator"):
        PassManager([FuseSilu()]).run(graph, CONTEXT)


def test_the_context_reaches_the_passes(graph: Graph) -> None:
    seen: list[str] = []

    @dataclass(frozen=True)
    class Reader:
        name: ClassVar[str] = "reader"

        def run(self, graph: Graph, context: PassContext) -> PassResult:
            seen.append(context.component)
            return Remarks(self.name).result()

    each: Pass = Reader()
    PassManager([each]).run(graph, replace(CONTEXT, component="unet"))
    assert seen == ["unet"]
