"""assign-precision: defaults, rules, FP16 weights, and weights that FP16 cannot hold."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.assign_precision import AssignPrecision
from edgefusion.passes.fuse_attention import FuseAttention
from edgefusion.runtime.errors import InputError, UsageError
from tests.graph_cases import CONTEXT, Array, parse
from tests.layout_cases import chained

TEXT = "g (float[2, 8] x) => (float[2, 4] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"
WEIGHTS = {"w": (8, 8), "v": (8, 4)}


def precisions(graph: Graph) -> dict[str, str]:
    return {
        node.name: node.annotations.get("precision", "")
        for node in graph.nodes
        if node.op != "Cast"
    }


@pytest.mark.parametrize(
    ("component", "default", "wanted"),
    [
        ("unet", "", "w8a16"),
        ("text_encoder", "", "fp16"),
        ("vae_decoder", "", "fp16"),
        ("", "", "fp16"),
        ("unet", "fp16", "fp16"),
    ],
)
def test_default_by_component(component: str, default: str, wanted: str) -> None:
    outcome = chained(
        [AssignPrecision(default)], TEXT, WEIGHTS, component=component, tolerance=2e-3
    )
    assert set(precisions(outcome.graph).values()) == {wanted}


def test_first_rule_that_matches_decides() -> None:
    rules = (("MatMul_y", "fp16"), ("MatMul*", "w8a16"), ("Relu", "w8a16"))
    outcome = chained([AssignPrecision("", rules)], TEXT, WEIGHTS, tolerance=2e-3)
    assert precisions(outcome.graph) == {
        "MatMul_h": "w8a16", "Relu_r": "w8a16", "MatMul_y": "fp16"
    }  # fmt: skip
    halves = [t.name for t in outcome.graph.constants if t.dtype == np.float16]
    assert halves == ["v_fp16"]


def test_shared_weight_is_stored_once() -> None:
    text = "g (float[2, 8] x) => (float[2, 8] y) { h = MatMul(x, w) y = MatMul(h, w) }"
    outcome = chained([AssignPrecision()], text, {"w": (8, 8)}, tolerance=2e-3)
    assert outcome.ops == ["Cast", "MatMul", "MatMul"]


def test_host_ops_keep_float32() -> None:
    outcome = chained(
        [AssignPrecision()],
        "g (int64[1, 900] i) => (float[1, 900, 8] y) { y = Gather(table, i) }",
        {"table": (8, 8)},
    )
    assert outcome.ops == ["Gather"]
    assert precisions(outcome.graph) == {"Gather_y": ""}


def test_infinite_mask_becomes_the_lowest_fp16_number() -> None:
    mask = np.triu(np.full((6, 6), -np.inf, np.float32), 1).reshape(1, 1, 6, 6)
    text = (
        "g (float[1, 6, 8] x, float[1, 6, 8] z, float[1, 6, 8] u) => (float[1, 6, 8] y) "
        "<int64[4] heads = {1, 6, 2, 4}, int64[3] tokens = {1, 6, 8}> "
        "{ qs = Reshape(x, heads) ks = Reshape(z, heads) vs = Reshape(u, heads) "
        "q = Transpose<perm = [0, 2, 1, 3]>(qs) k = Transpose<perm = [0, 2, 3, 1]>(ks) "
        "v = Transpose<perm = [0, 2, 1, 3]>(vs) p = MatMul(q, k) "
        "m = Add(p, mask) a = Softmax(m) o = MatMul(a, v) t = Transpose<perm = [0, 2, 1, 3]>(o) "
        "y = Reshape(t, tokens) }"
    )
    outcome = chained([FuseAttention(), AssignPrecision()], text, {"mask": mask}, tolerance=2e-3)
    assert "Attention_mask" in outcome.ops
    (stored,) = [t for t in outcome.graph.constants if t.dtype == np.float16]
    assert float(stored.values().min()) == float(np.finfo(np.float16).min)


@pytest.mark.parametrize(
    ("bad", "text"),
    [(np.nan, "holds NaN"), (70000.0, "reaches 70000"), (np.inf, "reaches inf")],
)
def test_weight_that_fp16_cannot_hold_is_named(bad: float, text: str) -> None:
    w: Array = np.ones((8, 8), np.float32)
    w[3, 2] = bad
    graph = Graph.from_model(parse(TEXT, {"w": w, "v": (8, 4)}))
    with pytest.raises(InputError, match=text) as error:
        AssignPrecision().run(graph, CONTEXT)
    assert "weight 'w' of layer 'MatMul_h'" in str(error.value)


def test_unknown_precision_is_a_usage_error() -> None:
    graph = Graph.from_model(parse(TEXT, WEIGHTS))
    with pytest.raises(UsageError, match="got 'int4'"):
        AssignPrecision(rules=(("*", "int4"),)).run(graph, CONTEXT)
