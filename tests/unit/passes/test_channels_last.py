"""channels-last: values stay, transposes vanish inside, and what cannot convert says why."""

from __future__ import annotations

import pytest

from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.channels_last import ChannelsLast
from edgefusion.passes.fuse_epilogue import FuseEpilogue
from edgefusion.passes.fuse_group_norm import FuseGroupNorm
from edgefusion.passes.fuse_silu import FuseSilu
from edgefusion.passes.layout_forms import is_view, last_axis_of, to_first, to_last
from edgefusion.passes.pass_manager import PassManager
from tests.graph_cases import CONTEXT, Outcome, parse, rewritten, untouched
from tests.layout_cases import chained, reasons

CONV = {"w": (8, 8, 3, 3), "w2": (8, 8, 1, 1), "b": (8,)}
HEAD = "g (float[1, 8, 6, 4] x) => (float[1, 8, 6, 4] y)"


def transposes(outcome: Outcome) -> int:
    return outcome.ops.count("Transpose")


def last(text: str, weights: dict[str, tuple[int, ...]] | None = None) -> Outcome:
    return rewritten(ChannelsLast(), text, CONV if weights is None else weights)


def test_permutations_are_inverse() -> None:
    for rank in (3, 4, 5):
        assert [to_last(rank)[axis] for axis in to_first(rank)] == list(range(rank))
        assert last_axis_of(1, rank) == rank - 1
        assert last_axis_of(-1, rank) == rank - 2
    assert is_view((1, 5, 1, 1), to_last(4))
    assert not is_view((2, 5, 1, 3), to_last(4))


def test_conv_becomes_conv_last_between_two_transposes() -> None:
    outcome = last(f"{HEAD} {{ y = Conv<pads = [1, 1, 1, 1]>(x, w, b) }}")
    assert outcome.ops == ["Transpose", "ConvLast_bias", "Transpose"]
    conv = outcome.graph.nodes[1]
    assert conv.output.shape == (1, 6, 4, 8)
    assert conv.get_ints("strides") == (1, 1)
    assert conv.origin == ("Conv_y",)
    assert conv.name == "Conv_y", "a twin takes over the name"


def test_chain_of_convs_keeps_transposes_at_the_boundary_only() -> None:
    outcome = last(
        f"{HEAD} {{ a = Conv<pads = [1, 1, 1, 1]>(x, w) s = Sigmoid(a) m = Mul(a, s) "
        "c = Conv(m, w2, b) y = Add(c, a) }"
    )
    assert outcome.ops == [
        "Transpose", "ConvLast", "Sigmoid", "Mul", "ConvLast_bias", "Add", "Transpose",
    ]  # fmt: skip


@pytest.mark.parametrize("pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_auto_pad_is_resolved(pad: str) -> None:
    size = "2, 1" if pad == "VALID" else "3, 2"
    last(
        f"g (float[1, 8, 6, 4] x) => (float[1, 8, {size}] y) "
        f'{{ y = Conv<auto_pad = "{pad}", strides = [2, 2]>(x, w) }}'
    )


def test_attention_transposes_vanish() -> None:
    outcome = last(
        f"{HEAD} <int64[3] tokens = {{1, 24, 8}}, int64[4] image = {{1, 6, 4, 8}}> "
        "{ a = Conv(x, w2) t = Transpose<perm = [0, 2, 3, 1]>(a) f = Reshape(t, tokens) "
        "l = LayerNormalization(f, g) p = Reshape(l, image) q = Transpose<perm = [0, 3, 1, 2]>(p) "
        "y = Add(q, a) }",
        {**CONV, "g": (8,)},
    )
    assert transposes(outcome) == 2
    assert outcome.ops.count("Reshape") == 2


def test_rank_three_transposes_of_the_decoder_vanish() -> None:
    outcome = chained(
        [FuseGroupNorm(), FuseSilu(), ChannelsLast()],
        f"{HEAD} <int64[3] flat = {{1, 8, 24}}, int64[3] grouped = {{1, 2, 96}}, "
        "int64[4] image = {1, 8, 6, 4}, float[2] one = {1, 1}, float[2] nil = {0, 0}> "
        "{ a = Conv(x, w2) f = Reshape(a, flat) i = Reshape(f, grouped) "
        "n = InstanceNormalization<epsilon = 0.00001>(i, one, nil) r = Reshape(n, flat) "
        "s = Mul(r, gamma) n2 = Add(s, beta) t = Transpose<perm = [0, 2, 1]>(n2) "
        "m = MatMul(t, k) u = Transpose<perm = [0, 2, 1]>(m) v = Reshape(u, image) y = Add(v, a) }",
        {**CONV, "gamma": (8, 1), "beta": (8, 1), "k": (8, 8)},
    )
    assert transposes(outcome) == 2
    assert "GroupNormLast" in outcome.ops


def test_time_embedding_and_constants_change_shape_not_layout() -> None:
    outcome = last(
        "g (float[1, 8, 6, 4] x, float[1, 8] t) => (float[1, 8, 6, 4] y) "
        "<int64[2] axes = {2, 3}> "
        "{ a = Conv(x, w2) e = Unsqueeze(t, axes) s = Add(a, e) c = Mul(s, v) d = Add(c, p) "
        "y = Sub(q, d) }",
        {**CONV, "v": (8, 1, 1), "p": (6, 4), "q": (1,)},
    )
    assert transposes(outcome) == 2
    shapes = {t.name: t.shape for t in outcome.graph.constants if t.name.endswith("_last")}
    assert shapes == {"v_last": (8,), "p_last": (6, 4, 1)}


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = Concat<axis = 1>(a, x, a)", "1, 24, 6, 4"),
        ("y = Concat<axis = -1>(a, a)", "1, 8, 6, 8"),
        ("y = Softmax<axis = 1>(a)", "1, 8, 6, 4"),
        ("y = Softmax(a)", "1, 8, 6, 4"),
        ("y = Slice(a, from, to, ax, step)", "1, 3, 6, 2"),
        ("y = Pad(a, pads)", "1, 8, 9, 7"),
        ("y = ReduceMean(a, hw)", "1, 8, 1, 1"),
        ("y = ReduceMean<keepdims = 0>(a, hw)", "1, 8"),
        ("y = ReduceMax<keepdims = 0>(a, one)", "1, 6, 4"),
        ("y = ReduceSum<keepdims = 0>(a, two)", "1, 8, 4"),
        ("y = GlobalAveragePool(a)", "1, 8, 1, 1"),
        ("y = GlobalMaxPool(a)", "1, 8, 1, 1"),
        ("y = Clip(a, low, high)", "1, 8, 6, 4"),
        ("y = PRelu(a, slope)", "1, 8, 6, 4"),
        ("g = GlobalAveragePool(a) y = Flatten(g)", "1, 8"),
        ("y = Reshape(a, rows)", "1, 8, 24"),
        ("y = Reshape(a, mixed)", "1, 4, 12, 4"),
        ("y = Flatten(a)", "1, 192"),
        ("y = Transpose<perm = [0, 3, 1, 2]>(a)", "1, 4, 8, 6"),
        ("y = Transpose<perm = [0, 2, 3, 1]>(a)", "1, 6, 4, 8"),
        ("t = Transpose<perm = [0, 2, 3, 1]>(a) y = Relu(t)", "1, 6, 4, 8"),
        ("y = DepthToSpace<blocksize = 2>(a)", "1, 2, 12, 8"),
        ("d = SpaceToDepth<blocksize = 2>(a) y = Relu(d)", "1, 32, 3, 2"),
    ],
)
def test_every_follower_keeps_values(body: str, shape: str) -> None:
    last(
        f"g (float[1, 8, 6, 4] x) => (float[{shape}] y) "
        "<int64[2] from = {0, 1}, int64[2] to = {6, 7}, int64[2] ax = {-1, 1}, "
        "int64[2] step = {2, 2}, int64[8] pads = {0, 0, 1, 2, 0, 0, 2, 1}, int64[2] hw = {2, 3}, "
        "int64[1] one = {1}, int64[1] two = {2}, float low = {0}, float high = {6}, "
        "int64[3] rows = {1, 8, 24}, int64[4] mixed = {1, 4, 12, 4}> "
        f"{{ a = Conv(x, w2) {body} }}",
        {**CONV, "slope": (8, 1, 1)},
    )


def test_spatial_mean_without_kept_axes_needs_no_transpose() -> None:
    outcome = last(
        "g (float[1, 8, 6, 4] x) => (float[1, 8] y) <int64[2] hw = {2, 3}> "
        "{ a = Conv(x, w2) y = ReduceMean<keepdims = 0>(a, hw) }"
    )
    assert transposes(outcome) == 1


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        ("MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>", "3, 2"),
        ("MaxPool<kernel_shape = [2, 2]>", "5, 3"),
        ("AveragePool<kernel_shape = [2, 2], strides = [2, 2]>", "3, 2"),
        (
            "AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>",
            "6, 4",
        ),
        ('MaxPool<kernel_shape = [3, 3], auto_pad = "SAME_UPPER", strides = [2, 2]>', "3, 2"),
    ],
)
def test_pools(op: str, shape: str) -> None:
    outcome = last(f"g (float[1, 8, 6, 4] x) => (float[1, 8, {shape}] y) {{ y = {op}(x) }}")
    assert outcome.ops[1].startswith("PoolLast_")


@pytest.mark.parametrize(
    ("op", "shape", "reason"),
    [
        ("MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>", "4, 2", "without dilation"),
        ("MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>", "3, 2", "ceil_mode"),
    ],
)
def test_pools_that_the_npu_lacks_stay(op: str, shape: str, reason: str) -> None:
    outcome = untouched(
        ChannelsLast(), f"g (float[1, 8, 6, 4] x) => (float[1, 8, {shape}] y) {{ y = {op}(x) }}"
    )
    assert reason in outcome.missed


@pytest.mark.parametrize(
    ("op", "weights", "shape"),
    [
        ("Conv<pads = [2, 1], strides = [2], dilations = [2]>(x, w, b)", (8, 2, 3), "8, 4"),
        ('Conv<auto_pad = "SAME_UPPER">(x, w, b)', (8, 2, 4), "8, 9"),
        ("ConvTranspose<strides = [2], pads = [1, 0]>(x, v, b)", (4, 8, 3), "8, 18"),
        ("MaxPool<kernel_shape = [3], strides = [2], pads = [1, 1]>(x)", None, "4, 5"),
        ("AveragePool<kernel_shape = [2]>(x)", None, "4, 8"),
    ],
)
def test_windows_over_one_axis_are_those_of_an_image_one_pixel_high(
    op: str, weights: tuple[int, ...] | None, shape: str
) -> None:
    given: dict[str, tuple[int, ...]] = {}
    if weights:
        given = {"v" if "Transpose" in op else "w": weights, "b": (8,)}
    op = op.replace("Conv<", "Conv<group = 2, ")
    outcome = last(f"g (float[1, 4, 9] x) => (float[1, {shape}] y) {{ y = {op} }}", given)
    (window,) = (node for node in outcome.graph.nodes if "Last" in node.op)
    assert window.inputs[0].shape == (1, 1, 9, 4)


def test_convs_over_one_axis_take_their_activation() -> None:
    outcome = last(
        "g (float[1, 4, 9] x) => (float[1, 4, 9] y) "
        "{ a = Conv<pads = [1, 1]>(x, w, b) c = Relu(a) y = Conv<pads = [1, 1]>(c, w, b) }",
        {"w": (4, 4, 3), "b": (4,)},
    )
    assert outcome.ops.count("Transpose") == 2
    fused = FuseEpilogue().run(outcome.graph, CONTEXT)
    assert fused.matched == 1
    assert "ConvLast_bias_relu" in [node.op for node in outcome.graph.nodes]


def test_conv_over_three_axes_stays() -> None:
    outcome = untouched(
        ChannelsLast(),
        "g (float[1, 4, 5, 5, 5] x) => (float[1, 4, 3, 3, 3] y) { y = Conv(x, w) }",
        {"w": (4, 4, 3, 3, 3)},
    )
    assert "one or two spatial axes" in outcome.missed


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        ("DepthToSpace<blocksize = 2>", "2, 12, 8"),
        ('DepthToSpace<blocksize = 2, mode = "CRD">', "2, 12, 8"),
        ("SpaceToDepth<blocksize = 2>", "32, 3, 2"),
    ],
)
def test_blocks_and_channels(op: str, shape: str) -> None:
    body = f"r = Conv<pads = [1, 1, 1, 1]>(x, w, b) y = {op}(r)"
    outcome = last(f"g (float[1, 8, 6, 4] x) => (float[1, {shape}] y) {{ {body} }}")
    assert transposes(outcome) == 3
    assert {"DepthToSpace", "SpaceToDepth"}.isdisjoint(outcome.ops)


@pytest.mark.parametrize("which", ["scales", "sizes"])
def test_nearest_resize(which: str) -> None:
    operand = "s" if which == "scales" else ", z"
    outcome = last(
        "g (float[1, 8, 6, 4] x) => (float[1, 8, 12, 8] y) "
        "<float[4] s = {1, 1, 2, 2}, int64[4] z = {1, 8, 12, 8}> "
        '{ y = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", '
        f'nearest_mode = "floor">(x, , {operand}) }}'
    )
    assert outcome.ops == ["Transpose", "Resize", "Transpose"]


@pytest.mark.parametrize(
    ("attributes", "scales", "shape", "products"),
    [
        ('mode = "linear"', "1, 1, 2, 2", "12, 8", 2),
        ('mode = "linear", coordinate_transformation_mode = "align_corners"', "", "9, 10", 2),
        ('mode = "linear", antialias = 1', "1, 1, 0.5, 0.5", "3, 2", 2),
        ('mode = "cubic", cubic_coeff_a = -0.5, exclude_outside = 1', "", "6, 7", 1),
        ('mode = "nearest"', "1, 1, 1.5, 1", "9, 4", 1),
        ('mode = "nearest"', "", "5, 3", 2),
    ],
)
def test_other_resizes_are_products_along_rows_and_columns(
    attributes: str, scales: str, shape: str, products: int
) -> None:
    operand = "(c, , s)" if scales else "(c, , , z)"
    declared = f"float[4] s = {{{scales}}}" if scales else f"int64[4] z = {{1, 8, {shape}}}"
    outcome = last(
        f"g (float[1, 8, 6, 4] x) => (float[1, 8, {shape}] y) <{declared}> "
        f"{{ c = Conv(x, w2) y = Resize<{attributes}>{operand} }}"
    )
    assert outcome.ops.count("MatMul") == products
    assert "Resize" not in outcome.ops


@pytest.mark.parametrize(
    ("inputs", "op", "reason"),
    [
        ("", 'Resize<mode = "linear", axes = [2, 3]>(x, , t)', "a part of the image"),
        (", float[4] given", 'Resize<mode = "linear">(x, , given)', "not known at compile time"),
        ("", 'Resize<mode = "linear">(x, , c)', "other axes"),
    ],
)
def test_resizes_that_stay(inputs: str, op: str, reason: str) -> None:
    channels = 16 if "c)" in op else 8
    text = (
        f"g (float[1, 8, 6, 4] x{inputs}) => (float[1, {channels}, 12, 8] y) "
        f"<float[2] t = {{2, 2}}, float[4] c = {{1, 2, 2, 2}}> {{ y = {op} }}"
    )
    graph = Graph.from_model(parse(text))
    record = PassManager([ChannelsLast()]).run(graph, CONTEXT)[0]
    assert [node.op for node in graph.nodes] == ["Resize"]
    assert any(reason in remark.reason for remark in record.remarks)


def test_op_in_the_middle_that_stays_gets_transposes_and_a_remark() -> None:
    outcome = last(
        "g (float[1, 8, 6, 4] x) => (float[1, 8, 6, 4] y) "
        "{ a = Conv(x, w2) d = LRN<size = 3>(a) y = Conv(d, w2) }",
        CONV,
    )
    assert transposes(outcome) == 4
    assert any("an op wants channels first" in reason for reason in reasons(outcome, "missed"))


def test_result_that_is_output_and_read_on() -> None:
    outcome = last(
        "g (float[1, 8, 6, 4] x) => (float[1, 8, 6, 4] y, float[1, 6, 4, 8] z, "
        "float[1, 8, 6, 4] r) "
        "{ y = Conv(x, w2) z = Transpose<perm = [0, 2, 3, 1]>(y) r = Relu(y) }"
    )
    assert transposes(outcome) == 3


def test_split_with_one_dead_result() -> None:
    last(
        "g (float[1, 8, 6, 4] x) => (float[1, 4, 6, 4] y) "
        "{ a = Conv(x, w2) y, unused = Split<axis = 1, num_outputs = 2>(a) }"
    )


def test_graph_without_images_is_untouched() -> None:
    untouched(
        ChannelsLast(),
        "g (float[2, 6, 8] x) => (float[2, 6, 8] y) { l = Relu(x) y = MatMul(l, w) }",
        {"w": (8, 8)},
    )
