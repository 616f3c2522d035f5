"""fuse-layer-norm: the written-out form, the native one, and near-misses."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.passes.fuse_layer_norm import FuseLayerNorm
from tests.graph_cases import Weights, rewritten, untouched

WEIGHTS: Weights = {
    "gamma": (8,),
    "beta": (8,),
    "last": np.array([-1]),
    "two": np.array(2.0, np.float32),
    "eps": np.array(1e-3, np.float32),
}
BODY = (
    "u = ReduceMean<keepdims = 1>(x, last) d = Sub(x, u) q = Pow(d, two) "
    "v = ReduceMean<keepdims = 1>(q, last) e = Add(v, eps) s = Sqrt(e) n = Div(d, s) "
    "m = Mul(n, gamma) y = Add(m, beta)"
)


def case(body: str = BODY, outputs: str = "float[2, 3, 8] y") -> str:
    return f"g (float[2, 3, 8] x) => ({outputs}) {{ {body} }}"


@pytest.mark.parametrize("square", ["Pow(d, two)", "Mul(d, d)"])
@pytest.mark.parametrize("division", ["n = Div(d, s)", "i = Reciprocal(s) n = Mul(i, d)"])
@pytest.mark.parametrize("affine", ["m = Mul(n, gamma)", "m = Mul(gamma, n)"])
def test_written_out_form(square: str, division: str, affine: str) -> None:
    body = BODY.replace("Pow(d, two)", square).replace("n = Div(d, s)", division)
    outcome = rewritten(FuseLayerNorm(), case(body.replace("m = Mul(n, gamma)", affine)), WEIGHTS)
    assert outcome.ops == ["LayerNormalization"]
    assert outcome.only.get_float("epsilon") == pytest.approx(1e-3)
    assert len(outcome.only.inputs) == 3


def test_without_gamma_and_beta() -> None:
    body = BODY.split(" m =")[0].replace("n = Div", "y = Div")
    outcome = rewritten(FuseLayerNorm(), case(body), WEIGHTS)
    assert outcome.ops == ["LayerNormalization"]
    assert len(outcome.only.inputs) == 2


def test_beta_without_gamma_stays_outside() -> None:
    body = BODY.replace("m = Mul(n, gamma) y = Add(m, beta)", "y = Add(n, beta)")
    assert rewritten(FuseLayerNorm(), case(body), WEIGHTS).ops == ["LayerNormalization", "Add"]


def test_native_form_counts_as_matched_and_stays() -> None:
    outcome = rewritten(
        FuseLayerNorm(), case("y = LayerNormalization<axis = -1>(x, gamma, beta)"), WEIGHTS
    )
    assert outcome.record.matched == 1
    assert not outcome.record.changed


def test_native_form_over_two_axes_is_refused() -> None:
    outcome = untouched(
        FuseLayerNorm(),
        case("y = LayerNormalization<axis = 1>(x, gamma, beta)"),
        {"gamma": (3, 8), "beta": (3, 8)},
    )
    assert "2 axes" in outcome.missed


def test_other_axis_is_refused() -> None:
    body = BODY.replace("gamma", "two").replace("beta", "two")
    outcome = untouched(FuseLayerNorm(), case(body), {**WEIGHTS, "last": np.array([1])})
    assert "axes (1,)" in outcome.missed


def test_mean_of_another_tensor_is_refused() -> None:
    text = f"g (float[2, 3, 8] x, float[2, 3, 8] z) => (float[2, 3, 8] y) {{ {BODY} }}"
    outcome = untouched(FuseLayerNorm(), text.replace("1>(x", "1>(z", 1), WEIGHTS)
    assert "another tensor" in outcome.missed


def test_x_divided_instead_of_its_deviation_is_refused() -> None:
    outcome = untouched(FuseLayerNorm(), case(BODY.replace("Div(d, s)", "Div(x, s)")), WEIGHTS)
    assert "not divided" in outcome.missed


def test_quotient_upside_down_is_refused() -> None:
    outcome = untouched(FuseLayerNorm(), case(BODY.replace("Div(d, s)", "Div(s, d)")), WEIGHTS)
    assert "not divided" in outcome.missed


def test_variance_that_is_used_elsewhere_is_refused() -> None:
    outcome = untouched(
        FuseLayerNorm(),
        case(f"{BODY} z = Relu(v)", "float[2, 3, 8] y, float[2, 3, 1] z"),
        WEIGHTS,
    )
    assert "also used by" in outcome.missed
