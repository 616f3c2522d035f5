"""What each pass of the pipeline makes of a small graph: the text before it and after it.

Every graph is executed with ONNX Runtime, as written and after each pass, and must give the same
before its text is compared: a golden never holds a rewrite that changes values. Weights are small
integers, or are divided by them, so that goldens read well and no processor rounds otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.text import graph_text
from edgefusion.passes.assign_precision import AssignPrecision
from edgefusion.passes.channels_last import ChannelsLast
from edgefusion.passes.fold_attention_batch import FoldAttentionBatch
from edgefusion.passes.fold_batch_norm import FoldBatchNorm
from edgefusion.passes.fold_broadcast import FoldBroadcast
from edgefusion.passes.fold_constants import FoldConstants
from edgefusion.passes.fold_resize import FoldResize
from edgefusion.passes.fuse_attention import FuseAttention
from edgefusion.passes.fuse_epilogue import FuseEpilogue
from edgefusion.passes.fuse_geglu import FuseGeglu
from edgefusion.passes.fuse_gelu import FuseGelu
from edgefusion.passes.fuse_group_norm import FuseGroupNorm
from edgefusion.passes.fuse_layer_norm import FuseLayerNorm
from edgefusion.passes.fuse_norm_stats import FuseNormStats
from edgefusion.passes.fuse_rms_norm import FuseRmsNorm
from edgefusion.passes.fuse_silu import FuseSilu
from edgefusion.passes.normalize_gemm import NormalizeGemm
from edgefusion.passes.partition_host import PartitionHost
from edgefusion.passes.pass_base import Pass
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.passes.quantize_w8a16 import QuantizeW8A16
from edgefusion.passes.remove_identities import RemoveIdentities
from edgefusion.passes.remove_qdq import RemoveQdq
from edgefusion.passes.rewrite_ops import RewriteOps
from edgefusion.passes.split_batch import SplitBatch
from edgefusion.passes.split_transpose import SplitTranspose
from edgefusion.passes.tabulate_timestep import TabulateTimestep
from edgefusion.passes.transpose_upsampled_conv import TransposeUpsampledConv
from tests.graph_cases import CONTEXT, Array, assert_same, execute, parse, random_feeds

Golden = Callable[[str, str], None]

FOLDER = Path(__file__).parent / "passes"
SIZES = range(30, 1501)
"""Bytes of a golden that a reviewer still reads."""
TIMESTEPS = (999, 499)


@dataclass(frozen=True)
class PassCase:
    """A graph that ``tested`` rewrites, ``source`` after the passes ``behind`` which it runs."""

    tested: Pass
    source: str
    weights: Mapping[str, Array] = field(default_factory=dict)
    behind: tuple[Pass, ...] = ()
    feeds: Mapping[str, Array] = field(default_factory=dict)
    component: str = ""
    tolerance: float = 2e-5


def whole(*shape: int) -> Array:
    """Whole numbers from -2 to 2, in FP32."""
    return (np.arange(int(np.prod(shape)), dtype=np.float32) % 5 - 2).reshape(shape)


def int8_columns(rows: int, columns: int) -> Array:
    """Weights whose largest in each column is 127: INT8 holds them exactly, in steps of 1."""
    weights = whole(rows, columns)
    weights[0] = 127
    return weights


IMAGE = "g (float[1, 4, 3, 2] x) => (float[1, 4, 3, 2] y)"
LARGE_IMAGE = IMAGE.replace("3, 2", "512, 520")
"""More than is normalised in SRAM."""
GROUP_NORM = (
    "r = Reshape(c, groups) n = InstanceNormalization<epsilon = 0.5>(r, ones, zeros) "
    "b = Reshape(n, image) m = Mul(b, gamma) y = Add(m, beta)"
)
NORM_WEIGHTS = {
    "groups": np.array([0, 2, -1]),
    "image": np.array([1, 4, 3, 2]),
    "ones": np.ones(2, np.float32),
    "zeros": np.zeros(2, np.float32),
    "gamma": whole(4, 1, 1) + 3,
    "beta": whole(4, 1, 1),
}
EPILOGUE = "c = Conv(x, w, bias) s = Add(c, x) y = Relu(s)"
CONV_WEIGHTS = {"w": whole(4, 4, 1, 1), "bias": whole(4)}

CASES: Mapping[str, PassCase] = {
    "fold-constants": PassCase(
        FoldConstants(),
        "g (float[2, 6] x) => (float[3, 4] y) { b = Neg(w) a = Mul(x, b) s = Shape(x) "
        "n = Gather<axis = 0>(s, one) k = Div(n, two) r = Concat<axis = 0>(k, minus) "
        "y = Reshape(a, r) }",
        {"w": whole(6), "one": np.array([1]), "two": np.array([2]), "minus": np.array([-1])},
    ),
    "remove-qdq": PassCase(
        RemoveQdq(),
        "g (float[2, 3] x) => (float[2, 3] y) { q = QuantizeLinear(x, s, z) "
        "d = DequantizeLinear(q, s, z) m = MatMul(d, w) p = QuantizeLinear(m, s, l) "
        "y = DequantizeLinear(p, s, l) }",
        {
            "w": whole(3, 3),
            "s": np.array(0.5, np.float32),
            "z": np.array(128, np.uint8),
            "l": np.array(0, np.uint8),
        },
        feeds={"x": whole(2, 3)},  # multiples of the scale, which the pairs do not round
    ),
    "tabulate-timestep": PassCase(
        TabulateTimestep(TIMESTEPS),
        "g (int64[1] timestep, float[1, 2] x) => (float[1, 2] y) <float[1, 2] f = {1.0, 0.5}> "
        "{ t = Cast<to = 1>(timestep) a = Mul(t, f) y = Add(x, a) }",
        feeds={"timestep": np.array([499])},
        component="unet",
    ),
    "remove-identities": PassCase(
        RemoveIdentities(),
        "g (float[2, 6] x) => (float[2, 6] y) { a = Relu(x) i = Identity(a) "
        "r = Reshape(i, same) unread = Neg(r) y = Neg(r) }",
        {"same": np.array([2, 6])},
    ),
    "normalize-gemm": PassCase(
        NormalizeGemm(),
        "g (float[3, 6] x) => (float[3, 2] y) { y = Gemm<transB = 1, alpha = 0.5>(x, w, b) }",
        {"w": whole(2, 6), "b": whole(2)},
    ),
    "fold-batch-norm": PassCase(
        FoldBatchNorm(),
        f"{IMAGE} {{ c = Conv(x, w, bias) "
        "y = BatchNormalization<epsilon = 0.0>(c, gamma, beta, mean, variance) }",
        {
            **CONV_WEIGHTS,
            "gamma": whole(4) + 3,
            "beta": whole(4),
            "mean": whole(4) + 1,
            "variance": np.array([1, 4, 16, 64], np.float32),
        },
    ),
    "fuse-group-norm": PassCase(
        FuseGroupNorm(), f"{IMAGE} {{ {GROUP_NORM.replace('(c,', '(x,')} }}", NORM_WEIGHTS
    ),
    "fuse-layer-norm": PassCase(
        FuseLayerNorm(),
        "g (float[3, 8] x) => (float[3, 8] y) { u = ReduceMean<keepdims = 1>(x, last) "
        "d = Sub(x, u) q = Mul(d, d) v = ReduceMean<keepdims = 1>(q, last) e = Add(v, eps) "
        "s = Sqrt(e) n = Div(d, s) m = Mul(n, gamma) y = Add(m, beta) }",
        {
            "gamma": whole(8) + 3,
            "beta": whole(8),
            "last": np.array([-1]),
            "eps": np.array(0.5, np.float32),
        },
    ),
    "fuse-rms-norm": PassCase(
        FuseRmsNorm(),
        "g (float[3, 8] x) => (float[3, 8] y) { q = Mul(x, x) "
        "v = ReduceMean<keepdims = 1>(q, last) e = Add(v, eps) s = Sqrt(e) n = Div(x, s) "
        "y = Mul(n, gamma) }",
        {
            "gamma": whole(8) + 3,
            "last": np.array([-1]),
            "eps": np.array(0.5, np.float32),
        },
    ),
    "fuse-silu": PassCase(
        FuseSilu(), "g (float[2, 8] x) => (float[2, 8] y) { s = Sigmoid(x) y = Mul(x, s) }"
    ),
    "fuse-gelu": PassCase(
        FuseGelu(),
        "g (float[2, 8] x) => (float[2, 8] y) "
        "<float half = {0.5}, float one = {1.0}, float root = {1.41421356}> "
        "{ m = Div(x, root) f = Erf(m) a = Add(f, one) b = Mul(x, a) y = Mul(b, half) }",
    ),
    "fuse-geglu": PassCase(
        FuseGeglu(),
        "g (float[2, 8] x) => (float[2, 4] y) "
        "{ v, u = Split<axis = -1, num_outputs = 2>(x) a = Gelu(u) y = Mul(v, a) }",
    ),
    "fuse-attention": PassCase(
        FuseAttention(),
        "g (float[1, 5, 6] q, float[1, 7, 6] k, float[1, 7, 6] v) => (float[1, 5, 6] y) "
        "<int64[4] heads = {0, 0, 2, 3}, int64[3] merge = {0, 0, 6}, float half = {0.5}> "
        "{ qs = Reshape(q, heads) ks = Reshape(k, heads) vs = Reshape(v, heads) "
        "qh = Transpose<perm = [0, 2, 1, 3]>(qs) kh = Transpose<perm = [0, 2, 3, 1]>(ks) "
        "vh = Transpose<perm = [0, 2, 1, 3]>(vs) p = MatMul(qh, kh) m = Mul(p, half) "
        "a = Softmax(m) o = MatMul(a, vh) t = Transpose<perm = [0, 2, 1, 3]>(o) "
        "y = Reshape(t, merge) }",
    ),
    "fold-attention-batch": PassCase(
        FoldAttentionBatch(),
        "g (float[2, 5, 4] q) => (float[2, 5, 4] y) "
        "{ qt = Transpose<perm = [0, 2, 1]>(q) s = MatMul(q, qt) a = Softmax(s) "
        "y = MatMul(a, q) }",
        behind=(FuseAttention(),),
    ),
    "rewrite-ops": PassCase(
        RewriteOps(),
        "g (float[2, 6] x) => (float[2, 6] y) <float low = {-0.5}, float high = {0.5}> "
        "{ c = Clip(x, low, high) y = Sum(c, x, c) }",
    ),
    "remove-identities-merge-views": PassCase(
        RemoveIdentities(merge_views=True),
        "g (float[2, 6] x) => (float[12] y) <int64[2] thin = {3, 4}, int64[1] flat = {12}> "
        "{ a = Relu(x) r = Reshape(a, thin) y = Reshape(r, flat) }",
    ),
    "split-batch": PassCase(
        SplitBatch(),
        "g (float[2, 4, 5, 6] x) => (float[2, 4, 3, 4] y) { c = Conv(x, w, bias) y = Relu(c) }",
        CONV_WEIGHTS,
    ),
    "channels-last": PassCase(ChannelsLast(), f"{IMAGE} {{ {EPILOGUE} }}", CONV_WEIGHTS),
    "split-transpose": PassCase(
        SplitTranspose(),
        "g (float[1, 6, 6, 4] x) => (float[4, 9, 4] y) "
        "<int64[6] split = {1, 2, 3, 2, 3, 4}, int64[3] merge = {4, 9, 4}> { s = Reshape(x, split) "
        "t = Transpose<perm = [0, 1, 3, 2, 4, 5]>(s) y = Reshape(t, merge) }",
    ),
    "fold-resize": PassCase(
        FoldResize(),
        "g (float[1, 4, 3, 2] x) => (float[1, 4, 6, 4] y) <float[4] scales = {1, 1, 2, 2}> "
        '{ r = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", '
        'nearest_mode = "floor">(x, , scales) y = Conv(r, w, bias) }',
        CONV_WEIGHTS,
        (ChannelsLast(),),
    ),
    "transpose-upsampled-conv": PassCase(
        TransposeUpsampledConv(),
        "g (float[1, 128, 32, 32] x) => (float[1, 128, 64, 64] y) <float[4] s = {1, 1, 2, 2}> "
        '{ r = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", '
        'nearest_mode = "floor">(x, , s) y = Conv<pads = [1, 1, 1, 1]>(r, w, b) }',
        {"w": whole(128, 128, 3, 3), "b": whole(128)},
        (ChannelsLast(), FoldResize()),
    ),
    "fuse-epilogue": PassCase(
        FuseEpilogue(), f"{IMAGE} {{ {EPILOGUE} }}", CONV_WEIGHTS, (ChannelsLast(),)
    ),
    "fuse-norm-stats": PassCase(
        FuseNormStats(),
        f"{LARGE_IMAGE} {{ c = Conv(x, w, bias) {GROUP_NORM} }}",
        {**CONV_WEIGHTS, **NORM_WEIGHTS, "image": np.array([1, 4, 512, 520])},
        (FuseGroupNorm(), ChannelsLast(), FuseEpilogue()),
        tolerance=1e-4,  # ONNX Runtime sums a million squares in FP32
    ),
    "fold-broadcast": PassCase(
        FoldBroadcast(),
        "g (float[1, 3, 5, 4] x) => (float[1, 3, 5, 4] y) { y = Mul(x, angles) }",
        {"angles": whole(1, 1, 5, 4)},
    ),
    "assign-precision": PassCase(
        AssignPrecision(),
        "g (float[2, 8] x) => (float[2, 4] y) { m = MatMul(x, w) y = Relu(m) }",
        {"w": whole(8, 4)},
        component="vae_decoder",
    ),
    "quantize-w8a16": PassCase(
        QuantizeW8A16(),
        "g (float[2, 8] x) => (float[2, 4] y) { m = MatMul(x, w) y = Relu(m) }",
        {"w": int8_columns(8, 4)},
        (AssignPrecision(),),
        component="unet",
    ),
    "partition-host": PassCase(
        PartitionHost(),
        "g (float[1, 4] x) => (float[1, 8] y) "
        "{ s = Sin(x) c = Cos(x) e = Concat<axis = 1>(s, c) y = MatMul(e, w) }",
        {"w": whole(8, 8)},
    ),
}


def before_and_after(case: PassCase) -> str:
    """The graph's text before and after the pass, once it has given the same values each time."""
    model = parse(case.source, case.weights)
    feeds = {**random_feeds(model), **case.feeds}
    wanted = execute(model, feeds)
    graph = Graph.from_model(model)
    texts = [graph_text(graph)]

    def compare(_: str, now: Graph) -> None:
        assert_same(execute(now.to_model(), feeds), wanted, case.tolerance)
        texts.append(graph_text(now))

    context = replace(CONTEXT, component=case.component)
    PassManager([*case.behind, case.tested], observe=compare).run(graph, context)
    before, after = texts[-2:]
    assert after != before, "the pass leaves the graph alone"
    return f"before\n{before}\nafter\n{after}"


@pytest.mark.parametrize("name", CASES)
def test_pass(name: str, golden: Golden) -> None:
    text = before_and_after(CASES[name])
    assert len(text) in SIZES
    golden(f"passes/{name}", text)


def test_every_pass_of_the_pipeline_has_a_golden_in_its_order() -> None:
    assert [case.tested for case in CASES.values()] == list(default_passes(timesteps=TIMESTEPS))
    for name, case in CASES.items():
        assert name.startswith(case.tested.name)


def test_no_golden_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.txt" for name in CASES}
