"""partition-host: what goes to the host, in which groups, and why."""

from __future__ import annotations

from math import inf

import pytest

from edgefusion.compiler.frontend.placement import (
    group_host_nodes,
    host_groups,
    worth_no_transfer,
)
from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.partition_host import PartitionHost
from edgefusion.passes.pass_base import PassContext
from edgefusion.runtime.cost import dma_ns, host_ns, vector_ns
from edgefusion.runtime.errors import UnsupportedOpError
from tests.graph_cases import CONTEXT, parse
from tests.layout_cases import chained

WEIGHTS = {"w": (8, 8), "f": (1, 4)}


def groups(text: str) -> list[list[str]]:
    outcome = chained([PartitionHost()], text, WEIGHTS)
    return [[node.op for node in group.nodes] for group in host_groups(outcome.graph)]


def test_time_embedding_is_one_group_up_to_the_matmul() -> None:
    outcome = chained(
        [PartitionHost()],
        "g (int64[1] t) => (float[1, 8] y) <int64[1] a = {1}> "
        "{ u = Unsqueeze(t, a) c = Cast<to = 1>(u) m = Mul(c, f) s = Sin(m) k = Cos(m) "
        "e = Concat<axis = 1>(s, k) y = MatMul(e, w) }",
        WEIGHTS,
    )
    (group,) = host_groups(outcome.graph)
    assert [node.op for node in group.nodes] == ["Unsqueeze", "Cast", "Mul", "Sin", "Cos", "Concat"]
    assert group.name == "host0"
    assert "the NPU has no Sin" in group.reason
    assert "small element work on 4 values that the host has made" in group.reason
    assert outcome.graph.nodes[-1].annotations.get("host_partition") is None


def test_float_timestep_is_not_rounded_before_the_sine() -> None:
    assert groups(
        "g (float[1, 1] t) => (float[1, 8] y) "
        "{ m = Mul(t, f) s = Sin(m) e = Concat<axis = 1>(s, s) y = MatMul(e, w) }"
    ) == [["Mul", "Sin", "Concat"]]


def test_large_element_work_stays_on_the_npu() -> None:
    assert groups(
        "g (float[1, 600, 8] x) => (float[1, 600, 8] y) { s = Sin(x) a = Add(s, s) y = Relu(a) }"
    ) == [["Sin"]]


def test_what_counts_as_large_is_the_machines() -> None:
    """A transfer that takes long to set up is worth it for more values only."""
    text = "g (float[1, 600, 8] x) => (float[1, 600, 8] y) { s = Sin(x) a = Add(s, s) y = Relu(a) }"
    graph = Graph.from_model(parse(text, WEIGHTS))
    slow = CONTEXT.machine.with_values(dma_setup_ns=2000)
    PartitionHost().run(graph, PassContext(slow))
    (group,) = host_groups(graph)
    assert [node.op for node in group.nodes] == ["Sin", "Add", "Relu"]


def test_transfer_breaks_even_where_host_and_npu_take_as_long() -> None:
    machine = CONTEXT.machine.with_values(dma_burst_bytes=1)
    values = worth_no_transfer(machine)
    on_host_ns = host_ns(machine, 2 * 2 * values) - machine.host_call_ns
    on_npu_ns = 2 * dma_ns(machine, 1, 2 * values) + vector_ns(machine, 0, 0)
    # the bus moves whole bytes, so half a byte of each transfer may be missing
    assert on_npu_ns + 3 * machine.semaphore_ns == pytest.approx(float(on_host_ns), rel=1e-4)
    assert worth_no_transfer(machine.with_values(host_bandwidth_bytes_per_s=1e12)) == inf


def test_groups_stay_convex() -> None:
    # Both Sin could merge over the second edge, but the matmul lies between them on the first.
    assert groups(
        "g (float[1, 8] x) => (float[1, 8] y) "
        "{ s = Sin(x) m = MatMul(s, w) c = Cos(m) y = Mod<fmod = 1>(s, c) }"
    ) == [["Sin"], ["Cos", "Mod"]]


def test_neighbours_merge_into_one_group() -> None:
    assert groups(
        "g (float[1, 8] x) => (float[1, 8] y) { s = Sin(x) c = Cos(x) y = Mod<fmod = 1>(s, c) }"
    ) == [["Sin", "Cos", "Mod"]]


def test_nothing_for_the_host() -> None:
    outcome = chained(
        [PartitionHost()], "g (float[1, 8] x) => (float[1, 8] y) { y = MatMul(x, w) }", WEIGHTS
    )
    assert not outcome.record.changed
    assert host_groups(outcome.graph) == ()
    assert group_host_nodes(outcome.graph, {}) == ()


def test_unknown_operator_is_an_error_with_a_way_out() -> None:
    text = "g (float[1, 8] x) => (float[1, 8] y) { y = MatMul(x, w) }"
    graph = Graph.from_model(parse(text, WEIGHTS))
    node = graph.nodes[0]
    made = graph.tensor("z", (1, 8), node.output.dtype)
    graph.add("Mystery", [node.inputs[0]], [made], source=[node], domain="com.acme")
    with pytest.raises(UnsupportedOpError, match=r"com\.acme\.Mystery 'MatMul_y_1'") as error:
        PartitionHost().run(graph, CONTEXT)
    assert "from MatMul_y" in str(error.value)
    assert "the NPU has no Mystery" in str(error.value)
    assert "replace it by standard operators" in str(error.value)
    assert error.value.exit_code == 4
