"""What kinds say of themselves, held against what programs do: shapes, stripes, use of operands."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.kind import shapes_of
from edgefusion.compiler.network.network import Network, cuts, needs
from edgefusion.compiler.network.tensor import NetTensor
from edgefusion.compiler.network.verify_network import InvalidNetworkError, verify_network
from edgefusion.compiler.network.window import Span, Window
from edgefusion.compiler.ops.conv import Conv
from edgefusion.compiler.ops.elementwise import Binary
from edgefusion.compiler.ops.kinds import KINDS
from edgefusion.compiler.ops.movement import Reshape
from edgefusion.compiler.ops.pooling import Pool, Reduce
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.isa import DType, Role
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.target import load_target
from tests.fp16_reference import draw, half_network
from tests.lowering_cases import NetworkBuilder, all_cases, attention_case

MACHINE = load_target("exynos2400").machine
MLT = schedule_named("mlt")
Drawn = tuple[dict[str, Array], dict[str, Array]]


def grouped_conv() -> Network:
    """Depth-wise in pairs, with strides and dilations."""
    b = NetworkBuilder()
    b.add("x", 1, 13, 12, 8, role=Role.INPUT)
    b.weight("w", 16, 2, 3, 3)
    b.add("bias", 16, dtype=DType.INT64, role=Role.WEIGHT)
    b.add("y", 1, 5, 6, 16, role=Role.OUTPUT)
    conv = Conv(x="x", w="w", bias="bias", strides=(2, 2), dilations=(2, 2), groups=4)
    b.op("conv", replace(conv, pads=(0, 1, 1, 2)), "y")
    return b.build()


def average_pool() -> Network:
    b = NetworkBuilder()
    b.add("x", 1, 30, 20, 64, role=Role.INPUT)
    b.add("y", 1, 8, 7, 64, role=Role.OUTPUT)
    pool = Pool(x="x", function="average", kernel=(2, 2), strides=(4, 3))
    b.op("pool", replace(pool, pads=(0, 0, 1, 0)), "y")
    return b.build()


def reduced(*, keepdims: bool) -> Network:
    b = NetworkBuilder()
    b.add("x", 6, 5, 64, role=Role.INPUT)
    b.add("y", *((6, 5, 1) if keepdims else (6, 5)), role=Role.OUTPUT)
    b.op("reduce", Reduce(x="x", function="sum", axes=(2,), keepdims=keepdims), "y")
    return b.build()


def column_and_square(*, square: bool) -> Network:
    """An operand that repeats along columns; one that is read twice."""
    b = NetworkBuilder()
    b.add("x", 1, 9, 32, role=Role.INPUT)
    other = "x" if square else b.add("other", 1, 9, 1, role=Role.INPUT)
    b.add("y", 1, 9, 32, role=Role.OUTPUT)
    b.op("binary", Binary(a="x", b=other, function="mul"), "y")
    return b.build()


CASES = {
    name: half_network(network)
    for name, network in {
        **all_cases(),
        "attention_row_mask": attention_case(60, 77, mask=True),
        "average_pool": average_pool(),
        "grouped_conv": grouped_conv(),
        "reduce_last": reduced(keepdims=True),
        "reduce_dropped": reduced(keepdims=False),
        "binary_column": column_and_square(square=False),
        "square": column_and_square(square=True),
    }.items()
    if name != "host"
}
STRIPES = [(name, axis) for name, n in CASES.items() for axis in cuts(n.ops[0], n.tensors)]


@cache
def drawn(case: str) -> Drawn:
    return draw(CASES[case])


def result(case: str, values: Drawn) -> Array:
    network = CASES[case]
    program = lower(network, MACHINE, MLT).program
    return Executor(program, MACHINE, values[1], checked=False).run(values[0]).outputs["y"]


@cache
def whole(case: str) -> Array:
    return result(case, drawn(case))


def stripe_of(values: Array, axis: int, span: Span) -> Array:
    return values[(slice(None),) * axis + (slice(span.start, span.stop),)]


def changed(case: str, keep: dict[str, Array]) -> Drawn:
    """Other values where ``keep``, a mask by tensor, is false; nothing else changes."""
    made: list[dict[str, Array]] = []
    rng = np.random.default_rng(7)
    for values in drawn(case):
        made.append(dict(values))
        for name, kept in keep.items():
            if name in values:
                other = values[name] + 1.0 + rng.random(values[name].shape).astype(np.float32)
                made[-1][name] = np.where(kept, values[name], other)
    return made[0], made[1]


def middle(extent: int, granule: int) -> Span:
    """A span away from both ends, where there is room, that begins and ends at the granule."""
    count = extent // granule
    start = count // 3
    return Span(start * granule, max(1, count // 3) * granule)


def inside(shape: tuple[int, ...], axis: int, span: Span) -> Array:
    kept = np.zeros(shape, dtype=bool)
    stripe_of(kept, axis, span)[...] = True
    return kept


@pytest.mark.parametrize("case", CASES)
def test_results_have_the_shape_that_the_kind_derives(case: str) -> None:
    network = CASES[case]
    (op,) = network.ops
    expected = op.kind.result_shape(shapes_of(op.kind, network.tensors))
    assert expected in (None, network.tensor("y").shape)
    verify_network(network)


@pytest.mark.parametrize(("case", "axis"), STRIPES)
def test_a_stripe_depends_on_nothing_but_what_it_needs(case: str, axis: int) -> None:
    network = CASES[case]
    (op,) = network.ops
    y = network.tensor("y").shape
    span = middle(y[axis], cuts(op, network.tensors)[axis])
    found = needs(op, network.tensors, axis, span)
    assert found, "a cut that needs all of everything is none"
    keep = {n: inside(network.tensor(n).shape, along, part) for n, (along, part) in found.items()}
    assert any(not kept.all() for kept in keep.values()) or span.size == y[axis]
    stripe = stripe_of(result(case, changed(case, keep)), axis, span)
    np.testing.assert_array_equal(stripe, stripe_of(whole(case), axis, span))


@pytest.mark.parametrize(("case", "axis"), STRIPES)
def test_a_stripe_needs_all_that_it_says(case: str, axis: int) -> None:
    """Both ends of every range that it reads change it."""
    network = CASES[case]
    (op,) = network.ops
    span = middle(network.tensor("y").shape[axis], cuts(op, network.tensors)[axis])
    for name, (along, part) in needs(op, network.tensors, axis, span).items():
        for end in {part.start, part.stop - 1} if part.size else ():
            shape = network.tensor(name).shape
            keep = {name: ~inside(shape, along, Span(end, 1))}
            stripe = stripe_of(result(case, changed(case, keep)), axis, span)
            assert (stripe != stripe_of(whole(case), axis, span)).any(), (name, end)


def test_every_kind_is_cut_somewhere_but_those_that_say_why() -> None:
    """Views and host functions have no stripes of their own."""
    cut = {type(CASES[name].ops[0].kind) for name, _ in STRIPES}
    assert {kind.name for kind in set(KINDS) - cut} == {"view", "host"}


def test_operands_stand_in_order_with_gaps_for_absent_ones() -> None:
    conv = Conv(x="x", w="w", strides=(2, 2))
    assert conv.inputs == ("x", "w", "")
    assert conv.attributes == {
        "strides": (2, 2), "pads": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1, "upsample": 1
    }  # fmt: skip


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError, match="stride"):
        Conv(x="x", w="w", stride=(2, 2))  # type: ignore[call-arg]


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("upsample", [1, 2])
def test_windows_against_enumeration(
    kernel: int, stride: int, dilation: int, upsample: int
) -> None:
    extent, pad, size = 24, kernel // 2, 0
    window = Window(extent, kernel, stride, pad, dilation, upsample)
    size = (extent + 2 * pad - window.reach) // stride + 1

    def read(outputs: range) -> set[int]:
        at = {o * stride - pad + k * dilation for o in outputs for k in range(kernel)}
        return {i // upsample for i in at if 0 <= i < extent}

    for start in range(size):
        for count in range(1, size - start + 1):
            elements = read(range(start, start + count))
            source = window.source(Span(start, count))
            found = range(source.span.start, source.span.stop)
            assert elements <= set(found)
            if dilation == 1:  # else the outermost taps may lie in the padding
                assert (found[0], found[-1]) == (min(elements), max(elements))
            assert source.span.size <= window.largest(count)
    assert window.touched(size) == len(read(range(size)))


def faulty(fault: str) -> Network:
    network = CASES["unary"]
    (op,) = network.ops
    if fault == "reads 'x'":
        return replace(network, inputs=())
    if fault == "is not made":
        return replace(network, outputs=("z",))
    if fault == "is a view of an input":
        return replace(network, ops=(replace(op, kind=Reshape(x="x")),))
    if fault == "there is no tensor":
        return replace(network, ops=(replace(op, outputs=("z",)),))
    if fault == "which is there already":
        return replace(network, ops=(op, op))
    if fault == "names the constant":
        tensors = {**network.tensors, "x": replace(network.tensor("x"), constant="c")}
        return replace(network, tensors=tensors)
    if fault == "takes no epilogue":
        epilogue = CASES["conv"].ops[0].epilogue[1:2]
        return replace(network, ops=(replace(op, epilogue=epilogue),))
    tensors = {**network.tensors, "y": NetTensor("y", (1, 30, 20, 63), DType.FP16, Role.OUTPUT)}
    return replace(network, tensors=tensors)


@pytest.mark.parametrize(
    "fault",
    [
        "reads 'x'",
        "is not made",
        "is a view of an input",
        "there is no tensor",
        "which is there already",
        "names the constant",
        "takes no epilogue",
        r"expected a result of shape \(1, 30, 20, 64\), found \(1, 30, 20, 63\)",
    ],
)
def test_the_verifier_of_networks_fires(fault: str) -> None:
    with pytest.raises(InvalidNetworkError, match=fault):
        verify_network(faulty(fault))


def test_views_share_memory_and_say_so() -> None:
    assert Reshape.is_view
    assert Reshape(x="a").result_shape({"x": (1, 2)}) is None
