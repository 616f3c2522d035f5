"""Scales: which tensors share one, how big they are, and that a program gets all of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Epilogue, NetOp, Network
from edgefusion.compiler.network.ranges import LEVELS, Range
from edgefusion.compiler.network.scale_remarks import scale_remarks
from edgefusion.compiler.network.scales import (
    SMALLEST_SCALE,
    assign_scales,
    measured_tensors,
    scale_groups,
    with_scales,
)
from edgefusion.compiler.network.tensor import NetTensor
from edgefusion.compiler.ops.attention import MASK_MARGIN, Attention
from edgefusion.compiler.ops.elementwise import Binary, Unary
from edgefusion.compiler.ops.matmul import MatMul
from edgefusion.compiler.ops.movement import Concat, Reshape, Transpose
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import DType, Role
from edgefusion.runtime.target import load_target
from edgefusion.runtime.tensor_numbers import PLAIN, ROW_NORMALISED, UNCALIBRATED

SHAPE = (1, 4, 4, 8)


def network(
    ops: Sequence[NetOp], inputs: Sequence[str] = ("x",), tensors: Sequence[NetTensor] = ()
) -> Network:
    """All tensors that ``tensors`` does not give are INT16 of one shape."""
    given_tensors = {tensor.name: tensor for tensor in tensors}
    table = {}
    for name in (*inputs, *(n for op in ops for n in (*op.inputs, *op.outputs))):
        role = Role.INPUT if name in inputs else Role.ACTIVATION
        table[name] = given_tensors.get(name, NetTensor(name, SHAPE, DType.INT16, role))
    table |= {name: tensor for name, tensor in given_tensors.items() if name not in table}
    last = ops[-1].outputs[0]
    return Network("unet", table, tuple(ops), tuple(inputs), (last,))


def unary(x: str, y: str, *epilogue: Epilogue, function: str = "silu") -> NetOp:
    return NetOp(f"op_{y}", Unary(x=x, function=function), (y,), tuple(epilogue))


def view(x: str, y: str) -> NetOp:
    return NetOp(f"op_{y}", Reshape(x=x), (y,))


def concat(y: str, *x: str) -> NetOp:
    return NetOp(f"op_{y}", Concat(parts=x, axis=3), (y,))


def attention(mask: str = "") -> NetOp:
    return NetOp("att", Attention(q="q", k="k", v="v", mask=mask, heads=2, scale=0.5), ("y",))


TOKENS = tuple(NetTensor(n, (1, 16, 8), DType.INT16, Role.INPUT) for n in "qkv")


def test_moved_data_shares_a_scale_and_computed_data_does_not() -> None:
    net = network([unary("x", "a"), view("a", "b"), unary("b", "c"), concat("d", "b", "c")])
    groups = scale_groups(net)
    assert groups["a"] == groups["b"]
    assert len({groups[name] for name in "xacd"}) == 4
    assert measured_tensors(net) == ("x", "a", "c")
    ranges = {"x": Range(-1, 2), "a": Range(-5, 1), "c": Range(0, 3)}
    scales = assign_scales(net, ranges)
    assert scales["b"] == scales["a"] == 5 / LEVELS
    assert scales["x"] == 2 / LEVELS


def test_branches_of_a_concatenation_keep_their_scales() -> None:
    """Whatever is concatenated again, or viewed in between, the result holds the widest."""
    net = network(
        [unary("x", "a"), unary("a", "b"), concat("c", "a", "b"), view("c", "d"),
         unary("d", "e"), concat("f", "e", "d", "x"), view("f", "g")]
    )  # fmt: skip
    ranges = {"x": Range(-1, 2), "a": Range(-5, 1), "b": Range(0, 3), "e": Range(0, 4)}
    assert set(measured_tensors(net)) == set(ranges)
    scales = assign_scales(net, ranges)
    reach = {name: scale * LEVELS for name, scale in scales.items()}
    expected = {"x": 2, "a": 5, "b": 3, "c": 5, "d": 5, "e": 4, "f": 5, "g": 5}
    assert reach == pytest.approx(expected)


@given(st.data())
def test_groups_are_the_connected_moves(data: st.DataObject) -> None:
    ops: list[NetOp] = []
    names = ["x"]
    reached: dict[str, set[str]] = {"x": {"x"}}
    for index in range(data.draw(st.integers(1, 12))):
        name, kind = f"t{index}", data.draw(st.sampled_from(["view", "unary", "concat"]))
        sources = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
        if kind == "concat":
            ops.append(concat(name, *sources))
        else:
            sources = sources[:1]
            ops.append(view(sources[0], name) if kind == "view" else unary(sources[0], name))
        members = {name}.union(*(reached[s] for s in sources)) if kind == "view" else {name}
        reached |= dict.fromkeys(members, members)
        names.append(name)
    net = network(ops)
    groups = scale_groups(net)
    for one in groups:
        for other in groups:
            assert (groups[one] == groups[other]) == (other in reached[one])
    measured = measured_tensors(net)
    ranges = {name: Range(-i, 1.0) for i, name in enumerate(measured)}
    scales = assign_scales(net, ranges)
    for name, value in ranges.items():
        assert scales[name] * LEVELS >= value.largest * (1 - 1e-12)


def test_stages_and_zero_ranges() -> None:
    net = network([unary("x", "a", Epilogue("add", "x"), Epilogue("relu"))])
    measured = measured_tensors(net)
    assert set(measured) == {"x", "a", "op_a:stage0", "op_a:stage1"}
    scales = assign_scales(net, {name: Range(0, 0) for name in measured})
    assert set(scales.values()) == {SMALLEST_SCALE}


def test_scores() -> None:
    net = network([attention()], ("q", "k", "v"), TOKENS)
    assert "att:scores_in" in measured_tensors(net)
    assert "att:scores_out" not in measured_tensors(net)
    ranges = {name: Range(-3, 2) for name in measured_tensors(net)}
    scales = assign_scales(net, ranges)
    assert scales["att:scores_in"] == 3 / LEVELS
    assert "att:scores_out" not in scales


@pytest.mark.parametrize("lowest", [-3.4e38, -7.0])
def test_a_mask_of_minus_infinity_costs_no_resolution(lowest: float) -> None:
    mask = NetTensor("m", (1, 1, 16, 16), DType.INT16, Role.WEIGHT, constant="mask")
    net = network([attention("m")], ("q", "k", "v"), (*TOKENS, mask))
    measured = measured_tensors(net)
    assert {"mask", "att:scores_masked"} <= set(measured)
    ranges = {name: Range(-3, 2) for name in measured}
    ranges |= {"mask": Range(lowest, 0), "att:scores_masked": Range(lowest - 3, 2)}
    scales = assign_scales(net, ranges)
    if lowest < -100:
        assert scales["att:scores_in"] * LEVELS == pytest.approx(3 + MASK_MARGIN)
        assert scales["m"] * LEVELS == pytest.approx(6 + MASK_MARGIN)
        (remark,) = scale_remarks(net, ranges)
        assert remark.kind == "mask"
    else:
        assert scales["att:scores_in"] * LEVELS == pytest.approx(10)
        assert scales["m"] * LEVELS == pytest.approx(7)


def test_converted_tensors_take_the_range_of_what_they_were() -> None:
    half = NetTensor("x", SHAPE, DType.FP16, Role.INPUT)
    convert = NetOp("c", Transpose(x="x", perm=(0, 1, 2, 3)), ("x:int16",))
    net = network([convert, unary("x:int16", "y")], tensors=(half,))
    assert set(measured_tensors(net)) == {"x", "y"}
    scales = assign_scales(net, {"x": Range(-4, 1), "y": Range(0, 1)})
    assert scales["x:int16"] == 4 / LEVELS
    assert "x" not in scales


@pytest.mark.parametrize("schedule", ["serial", "mlt"])
def test_a_program_gets_all_scales_and_keeps_its_instructions(schedule: str) -> None:
    net = network([attention(), view("y", "z")], ("q", "k", "v"), (
        *TOKENS, NetTensor("y", (1, 16, 8), DType.INT16), NetTensor("z", (16, 8), DType.INT16)
    ))  # fmt: skip
    program = lower(net, load_target("exynos2400").machine, schedule_named(schedule)).program
    scales = assign_scales(net, {name: Range(-3, 2) for name in measured_tensors(net)})
    filled = with_scales(program, scales)
    for before, after in zip(program.tensors, filled.tensors, strict=True):
        if after.name == "att:scores_out":
            assert before.numbers == after.numbers == ROW_NORMALISED
        elif after.dtype == DType.INT16:
            assert (before.numbers, after.numbers.scale) == (UNCALIBRATED, scales[after.name])
        else:
            assert before.numbers == after.numbers == PLAIN
    assert filled.columns is program.columns
    with pytest.raises(InputError, match="no range for the tensor 'q'"):
        with_scales(program, {})


def test_a_range_that_is_missing_is_named() -> None:
    with pytest.raises(InputError, match=r"'a'.*calibrate again"):
        assign_scales(network([unary("x", "a")]), {"x": Range(0, 1)})


@pytest.mark.parametrize(("low", "count"), [(-1.0, 1), (0.0, 1), (0.5, 0)])
def test_a_divisor_that_spans_zero_is_remarked(low: float, count: int) -> None:
    net = network([NetOp("q", Binary(a="x", b="d", function="div"), ("y",))], ("x", "d"))
    ranges = {"x": Range(-8, 8), "d": Range(low, 2), "y": Range(-4, 4)}
    assert [(r.kind, r.tensor) for r in scale_remarks(net, ranges)] == [("divisor", "d")] * count


def test_remarks() -> None:
    weights = NetTensor("w", (2**26, 8), DType.INT8, Role.WEIGHT, "w")
    wide = NetTensor("x", (1, 2**26), DType.INT16, Role.INPUT)
    net = network(
        [NetOp("mm", MatMul(x="x", w="w"), ("a",)), unary("a", "b")], tensors=(weights, wide)
    )
    ranges = {"x": Range(0, 0), "a": Range(-100, 1), "b": Range(0, 100)}
    found = scale_remarks(net, ranges, {"x": 0.0, "a": 50.0, "b": 1.0})
    assert [(r.kind, r.tensor) for r in found] == [
        ("accumulator", "a"), ("table", "a"), ("zero", "x"), ("outlier", "b"),
    ]  # fmt: skip
    assert str(found[3]).startswith("outlier 'b': reaches 100, but 99.99 %")
    assert scale_remarks(network([unary("x", "y")]), {"x": Range(-8, 8)}, {"x": 2.0}) == ()


@pytest.mark.parametrize(
    ("function", "remarked"), [("silu", True), ("exp", True), ("relu", False), ("relu6", False)]
)
def test_wide_inputs_of_tables_are_remarked(function: str, remarked: bool) -> None:
    """Alone and in an epilogue; a requantization has no table."""
    net = network([unary("x", "y", Epilogue(function), function=function)])
    ranges = {"x": Range(-1, 65), "y": Range(0, 1), "op_y:stage0": Range(0, 64.5)}
    found = [(r.kind, r.tensor) for r in scale_remarks(net, ranges)]
    assert found == [("table", "x"), ("table", "op_y:stage0")] * remarked
    inside = {name: Range(-1, 64) for name in ranges}
    assert scale_remarks(net, inside) == ()
