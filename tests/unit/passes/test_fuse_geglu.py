"""fuse-geglu: value first, gate second, last axis; anything else is refused."""

from __future__ import annotations

import pytest

from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.fold_constants import FoldConstants
from edgefusion.passes.fuse_geglu import FuseGeglu
from edgefusion.passes.fuse_silu import FuseSilu
from edgefusion.passes.pass_manager import PassManager
from edgefusion.runtime.functions import UNARY
from tests.function_reference import OF_ALL_NUMBERS, SCALARS, source
from tests.graph_cases import (
    CONTEXT,
    assert_same,
    execute,
    parse,
    random_feeds,
    rewritten,
    untouched,
)

SPLIT = "v, u = Split<axis = -1, num_outputs = 2>(x)"


def case(body: str, outputs: str = "float[2, 3, 4] y") -> str:
    return f"g (float[2, 3, 8] x) => ({outputs}) {{ {body} }}"


@pytest.mark.parametrize("product", ["Mul(v, a)", "Mul(a, v)"])
@pytest.mark.parametrize("axis", [-1, 2])
def test_geglu_in_both_operand_orders(product: str, axis: int) -> None:
    split = SPLIT.replace("-1", str(axis))
    outcome = rewritten(FuseGeglu(), case(f"{split} a = Gelu(u) y = {product}"))
    assert outcome.ops == ["GEGLU"]


CHUNK = """
starts0 = Constant<value_ints = [0]>() middle = Constant<value_ints = [4]>()
ends = Constant<value_ints = [END]>() axis = Constant<value_ints = [AXIS]>()
one = Constant<value_ints = [1]>()
v = Slice(x, starts0, middle, axis, one) u = Slice(x, middle, ends, axis)
"""
"""torch's chunk, as its older exporter writes it."""


@pytest.mark.parametrize("axis", ["-1", "2"])
@pytest.mark.parametrize("end", ["8", "9223372036854775807"])
def test_halves_may_be_slices(axis: str, end: str) -> None:
    chunk = CHUNK.replace("AXIS", axis).replace("END", end)
    text = case(f"{chunk} a = Gelu(u) y = Mul(v, a)")
    model = parse(text)
    feeds = random_feeds(model)
    graph = Graph.from_model(model)
    PassManager([FoldConstants(), FuseGeglu()]).run(graph, CONTEXT)
    assert [node.op for node in graph.nodes] == ["GEGLU"]
    assert_same(execute(graph.to_model(), feeds), execute(model, feeds))


@pytest.mark.parametrize(
    ("first", "second"), [("[1]", "[4]"), ("[0]", "[3]"), ("[0]", "[5]")], ids=str
)
def test_slices_that_do_not_part_a_value_are_no_halves(first: str, second: str) -> None:
    """One that overlaps the other, leaves a gap, or has less than half."""
    end = 4 + int(first[1])
    body = f"""
        s0 = Constant<value_ints = {first}>() e0 = Constant<value_ints = [{end}]>()
        s1 = Constant<value_ints = {second}>() e1 = Constant<value_ints = [{int(second[1]) + 4}]>()
        axis = Constant<value_ints = [2]>()
        v = Slice(x, s0, e0, axis) u = Slice(x, s1, e1, axis) a = Gelu(u) y = Mul(v, a)"""
    model = parse(f"g (float[2, 3, 9] x) => (float[2, 3, 4] y) {{ {body} }}")
    graph = Graph.from_model(model)
    PassManager([FoldConstants(), FuseGeglu()]).run(graph, CONTEXT)
    assert "GEGLU" not in [node.op for node in graph.nodes]


@pytest.mark.parametrize("name", [name for name in OF_ALL_NUMBERS if not UNARY[name].steep])
def test_every_function_may_gate(name: str) -> None:
    body = f"v, m = Split<axis = -1, num_outputs = 2>(x) {source(name)} z = Mul(v, y)"
    model = parse(f"g (float[2, 3, 8] x) => (float[2, 3, 4] z) <{SCALARS}> {{ {body} }}")
    feeds = random_feeds(model)
    graph = Graph.from_model(model)
    PassManager([FuseSilu(), FuseGeglu()]).run(graph, CONTEXT)
    wanted = "GEGLU" if name == "gelu" else f"GLU_{UNARY[name].token}"
    assert [node.op for node in graph.nodes] == [wanted]
    assert_same(execute(graph.to_model(), feeds), execute(model, feeds))


def test_steep_gates_are_left() -> None:
    untouched(FuseGeglu(), case(f"{SPLIT} a = Exp(u) y = Mul(v, a)"))


def test_gate_first_is_refused() -> None:
    outcome = untouched(FuseGeglu(), case(f"{SPLIT} a = Gelu(v) y = Mul(u, a)"))
    assert "first half" in outcome.missed


def test_other_axis_is_refused() -> None:
    outcome = untouched(
        FuseGeglu(),
        "g (float[2, 4, 8] x) => (float[2, 2, 8] y) "
        "{ v, u = Split<axis = 1, num_outputs = 2>(x) a = Gelu(u) y = Mul(v, a) }",
    )
    assert "axis 1" in outcome.missed


def test_gate_times_its_own_function_is_something_else() -> None:
    body = f"{SPLIT} a = Gelu(u) y = Mul(u, a) z = Relu(v)"
    untouched(FuseGeglu(), case(body, "float[2, 3, 4] y, float[2, 3, 4] z"))


@pytest.mark.parametrize("extra", ["u", "v", "a"])
def test_intermediate_that_is_used_elsewhere_is_refused(extra: str) -> None:
    body = f"{SPLIT} a = Gelu(u) y = Mul(v, a) z = Relu({extra})"
    outcome = untouched(FuseGeglu(), case(body, "float[2, 3, 4] y, float[2, 3, 4] z"))
    assert "also used by" in outcome.missed
