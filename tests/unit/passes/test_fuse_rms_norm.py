"""fuse-rms-norm: what exporters write, and near-misses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.fuse_layer_norm import FuseLayerNorm
from edgefusion.passes.fuse_rms_norm import FuseRmsNorm
from edgefusion.passes.pass_manager import PassManager
from tests.graph_cases import (
    CONTEXT,
    Weights,
    assert_same,
    execute,
    random_feeds,
    rewritten,
    untouched,
)

WEIGHTS: Weights = {
    "gamma": (8,),
    "last": np.array([-1]),
    "two": np.array(2.0, np.float32),
    "one": np.array([1.0], np.float32),
    "eps": np.array(1e-3, np.float32),
}
BODY = (
    "q = Pow(x, two) v = ReduceMean<keepdims = 1>(q, last) e = Add(v, eps) s = Sqrt(e) "
    "n = Div(x, s) y = Mul(n, gamma)"
)


def case(body: str = BODY, outputs: str = "float[2, 3, 8] y", more: str = "") -> str:
    return f"g (float[2, 3, 8] x{more}) => ({outputs}) {{ {body} }}"


@pytest.mark.parametrize("square", ["Pow(x, two)", "Mul(x, x)"])
@pytest.mark.parametrize("add", ["Add(v, eps)", "Add(eps, v)"])
@pytest.mark.parametrize(
    "division",
    [
        "n = Div(x, s)",
        "i = Reciprocal(s) n = Mul(i, x)",
        "i = Reciprocal(s) n = Mul(x, i)",
        "i = Div(one, s) n = Mul(x, i)",
    ],
)
@pytest.mark.parametrize("scale", ["Mul(n, gamma)", "Mul(gamma, n)"])
def test_written_out_form(square: str, add: str, division: str, scale: str) -> None:
    body = BODY.replace("Pow(x, two)", square).replace("Add(v, eps)", add)
    body = body.replace("n = Div(x, s)", division).replace("Mul(n, gamma)", scale)
    outcome = rewritten(FuseRmsNorm(), case(body), WEIGHTS)
    assert outcome.ops == ["RMSNorm"]
    assert outcome.only.get_float("epsilon") == pytest.approx(1e-3)
    assert [tensor.name for tensor in outcome.only.inputs] == ["x", "gamma"]
    assert outcome.record.matched == 1


def test_gamma_of_more_axes_becomes_a_vector() -> None:
    outcome = rewritten(FuseRmsNorm(), case(), {**WEIGHTS, "gamma": (1, 1, 8)})
    assert outcome.ops == ["RMSNorm"]
    assert outcome.only.inputs[1].shape == (8,)


@pytest.mark.parametrize("after", ["y = Relu(n)", "y = Mul(n, z)", "y = Mul(n, n)"])
def test_without_gamma(after: str) -> None:
    """A factor that is computed is no gamma, and stays."""
    body = BODY.replace("y = Mul(n, gamma)", after)
    outcome = rewritten(FuseRmsNorm(), case(body, more=", float[2, 3, 8] z"), WEIGHTS)
    assert outcome.ops == ["RMSNorm", after.split()[2].split("(")[0]]
    gamma = outcome.graph.nodes[0].inputs[1]
    assert gamma.values().tolist() == [1.0] * 8


def test_layer_norm_is_not_taken_apart() -> None:
    """What is centred first is LayerNorm's, which runs before and leaves nothing to match."""
    body = "u = ReduceMean<keepdims = 1>(x, last) d = Sub(x, u) " + BODY
    text = case(body.replace("Pow(x", "Pow(d").replace("Div(x", "Div(d"))
    assert rewritten(FuseLayerNorm(), text, WEIGHTS).ops == ["LayerNormalization"]
    outcome = rewritten(FuseLayerNorm(), case(), WEIGHTS)
    assert not outcome.record.changed
    assert not outcome.record.remarks, "no near-match of LayerNorm"


@pytest.mark.parametrize(
    ("old", "new", "weights", "reason"),
    [
        ("gamma", "two", {"last": np.array([1])}, "over axes (1,), not the last"),
        ("gamma", "two", {"last": np.array([1, 2])}, "over axes (1, 2), not the last"),
        ("", "", {"gamma": (3, 8)}, "its scale [3, 8] is not one value"),
        ("", "", {"gamma": (3, 1)}, "its scale [3, 1] is not one value"),
        ("", "", {"gamma": (1,)}, "its scale [1] is not one value"),
        ("Div(x, s)", "Div(s, x)", {}, "'x' is not divided"),
        ("Div(x, s)", "Div(z, s)", {}, "'x' is not divided"),
        ("n = Div(x, s)", "i = Div(two, s) n = Mul(x, i)", {}, "'x' is not divided"),
        ("n = Div(x, s)", "i = Reciprocal(s) n = Mul(z, i)", {}, "'x' is not divided"),
    ],
)
def test_near_matches_are_refused(old: str, new: str, weights: Weights, reason: str) -> None:
    text = case(BODY.replace(old, new), more=", float[2, 3, 8] z")
    assert reason in untouched(FuseRmsNorm(), text, {**WEIGHTS, **weights}).missed


UNIT = "r = ReduceL2(x, last) c = Clip(r, tiny) e = Expand(c, shape) y = Div(x, e)"
UNIT_WEIGHTS: Weights = {
    **WEIGHTS,
    "tiny": np.array(1e-12, np.float32),
    "shape": np.array([2, 3, 8]),
}


@pytest.mark.parametrize(
    "body",
    [
        UNIT,
        "r = ReduceL2(x, last) c = Max(r, tiny) y = Div(x, c)",
        "r = ReduceL2(x, last) y = Div(x, r)",
    ],
)
def test_division_by_the_euclidean_norm(body: str) -> None:
    outcome = rewritten(FuseRmsNorm(), case(body), UNIT_WEIGHTS)
    assert outcome.ops == ["RMSNorm"]
    assert outcome.only.inputs[1].values() == pytest.approx(8**-0.5)


@pytest.mark.parametrize(
    ("body", "weights", "reason"),
    [
        (UNIT, {"tiny": np.array(0.5, np.float32)}, "at least 0.5"),
        (UNIT, {"last": np.array([1])}, "not the last"),
    ],
)
def test_other_divisions_by_norms_stay(body: str, weights: Weights, reason: str) -> None:
    text = case(f"{UNIT} z = Neg(c)", "float[2, 3, 8] y, float[2, 3, 1] z")
    assert untouched(FuseRmsNorm(), text, UNIT_WEIGHTS).ops  # the norm is used elsewhere, too
    assert reason in untouched(FuseRmsNorm(), case(body), {**UNIT_WEIGHTS, **weights}).missed


def test_mean_without_its_axis_is_refused() -> None:
    """On a square matrix it broadcasts over the wrong axis, and only the values would tell."""
    text = case(BODY.replace("keepdims = 1", "keepdims = 0"))
    text = text.replace("[2, 3, 8]", "[8, 8]")
    assert "drops the axis" in untouched(FuseRmsNorm(), text, WEIGHTS).missed


@pytest.mark.parametrize("inner", ["q", "v", "e", "s", "i"])
def test_inner_value_that_is_used_elsewhere_is_refused(inner: str) -> None:
    body = BODY.replace("n = Div(x, s)", "i = Reciprocal(s) n = Mul(x, i)")
    shape = "2, 3, 8" if inner == "q" else "2, 3, 1"
    text = case(f"{body} z = Neg({inner})", f"float[2, 3, 8] y, float[{shape}] z")
    assert untouched(FuseRmsNorm(), text, WEIGHTS).missed


@pytest.mark.parametrize("power", ["Mul(z, w)", "Pow(z, three)"])
def test_what_is_no_mean_of_squares_gets_no_remark(power: str) -> None:
    """Positive, as squares are, but none."""
    body = BODY.replace("Pow(x, two)", power).replace("Div(x, s)", "Div(z, s)")
    weights = {**WEIGHTS, "three": np.array(3.0, np.float32)}
    outcome = untouched(FuseRmsNorm(), case(f"z = Abs(x) w = Exp(x) {body}"), weights)
    assert not outcome.record.remarks


def test_exponent_that_adds_an_axis_is_refused() -> None:
    text = "g (float[3, 8] x) => (float[1, 3, 8] y) { " + BODY + " }"
    untouched(FuseRmsNorm(), text, {**WEIGHTS, "two": np.full((1, 1, 1), 2.0, np.float32)})


class Unit(torch.nn.Module):
    """Unit vectors, as torch has them."""

    weight = torch.ones(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = torch.nn.functional.normalize(x, dim=-1)
        return made


class Llama(torch.nn.Module):
    """As transformers writes it for Llama and T5."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.to(torch.float32)
        variance = wide.pow(2).mean(-1, keepdim=True)
        return self.weight * (wide * torch.rsqrt(variance + 1e-6)).to(x.dtype)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("module", "epsilon"), [(torch.nn.RMSNorm(8), 1.1920929e-07), (Llama(), 1e-6), (Unit(), 1e-24)]
)
def test_what_torch_exports(module: torch.nn.Module, epsilon: float, tmp_path: Path) -> None:
    example = (torch.zeros(1, 3, 8),)
    torch.nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(0))
    program = torch.onnx.export(
        module.eval(), example, dynamo=True, opset_version=20, verbose=False
    )
    assert program is not None
    program.save(tmp_path / "norm.onnx")
    model = onnx.load(tmp_path / "norm.onnx")
    feeds = random_feeds(model)
    graph = Graph.from_model(model)
    PassManager([FuseRmsNorm()]).run(graph, CONTEXT)
    (node,) = graph.nodes
    assert node.op == "RMSNorm"
    assert node.get_float("epsilon") == pytest.approx(epsilon, rel=1e-6)
    assert_same(execute(graph.to_model(), feeds), execute(model, feeds))
