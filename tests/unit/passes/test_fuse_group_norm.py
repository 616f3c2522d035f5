"""fuse-group-norm: what exporters write for GroupNorm, and instance norms that are none."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.passes.fuse_group_norm import FuseGroupNorm
from tests.graph_cases import Weights, rewritten, untouched

WEIGHTS: Weights = {
    "ones": np.ones(4, np.float32),
    "zeros": np.zeros(4, np.float32),
    "gamma": (8, 1, 1),
    "beta": (8, 1, 1),
    "groups": np.array([0, 4, -1]),
    "image": np.array([1, 8, 5, 3]),
}
BODY = (
    "r = Reshape(x, groups) n = InstanceNormalization<epsilon = 1e-3>(r, ones, zeros) "
    "b = Reshape(n, image) m = Mul(b, gamma) y = Add(m, beta)"
)


def case(body: str = BODY, outputs: str = "float[1, 8, 5, 3] y") -> str:
    return f"g (float[1, 8, 5, 3] x) => ({outputs}) {{ {body} }}"


@pytest.mark.parametrize("mul", ["Mul(b, gamma)", "Mul(gamma, b)"])
@pytest.mark.parametrize("add", ["Add(m, beta)", "Add(beta, m)"])
def test_exported_form_in_all_operand_orders(mul: str, add: str) -> None:
    body = BODY.replace("Mul(b, gamma)", mul).replace("Add(m, beta)", add)
    outcome = rewritten(FuseGroupNorm(), case(body), WEIGHTS)
    assert outcome.ops == ["GroupNorm"]
    assert outcome.only.get_int("num_groups") == 4
    assert outcome.only.get_float("epsilon") == pytest.approx(1e-3)
    assert [t.shape for t in outcome.only.inputs[1:]] == [(8,), (8,)]


def test_three_dimensions() -> None:
    weights = {**WEIGHTS, "gamma": (8, 1), "beta": (1, 8, 1), "image": np.array([2, 8, 6])}
    text = f"g (float[2, 8, 6] x) => (float[2, 8, 6] y) {{ {BODY} }}"
    assert rewritten(FuseGroupNorm(), text, weights).ops == ["GroupNorm"]


def test_without_gamma_and_beta() -> None:
    body = BODY.split(" m =")[0].replace("b = Reshape", "y = Reshape")
    assert rewritten(FuseGroupNorm(), case(body), WEIGHTS).ops == ["GroupNorm"]


def test_native_op_with_a_scale_for_each_group() -> None:
    outcome = rewritten(
        FuseGroupNorm(),
        case("y = GroupNormalization<num_groups = 4, epsilon = 1e-3>(x, s, t)"),
        {"s": (4,), "t": (4,)},
    )
    assert outcome.ops == ["GroupNorm"]


def test_scale_along_the_width_is_not_gamma() -> None:
    weights = {**WEIGHTS, "gamma": (1, 1, 3)}
    outcome = rewritten(FuseGroupNorm(), case(), weights)
    assert outcome.ops == ["GroupNorm", "Mul", "Add"]


def test_instance_norm_with_a_scale_of_its_own_is_refused() -> None:
    outcome = untouched(FuseGroupNorm(), case(), {**WEIGHTS, "ones": (4,)})
    assert "of its own" in outcome.missed


def test_instance_norm_with_a_bias_of_its_own_is_refused() -> None:
    outcome = untouched(FuseGroupNorm(), case(), {**WEIGHTS, "zeros": (4,)})
    assert "of its own" in outcome.missed


def test_groups_across_the_batch_are_refused() -> None:
    weights = {**WEIGHTS, "groups": np.array([1, 4, -1]), "image": np.array([2, 8, 5, 3])}
    text = f"g (float[2, 8, 5, 3] x) => (float[2, 8, 5, 3] y) {{ {BODY} }}"
    assert "batch" in untouched(FuseGroupNorm(), text, weights).missed


def test_other_shape_afterwards_is_refused() -> None:
    weights = {**WEIGHTS, "image": np.array([1, 8, 3, 5])}
    text = case(outputs="float[1, 8, 3, 5] y")
    assert "reshaped back" in untouched(FuseGroupNorm(), text, weights).missed


def test_normalized_groups_that_are_used_elsewhere_are_refused() -> None:
    outputs = "float[1, 8, 5, 3] y, float[1, 4, 30] z"
    outcome = untouched(FuseGroupNorm(), case(f"{BODY} z = Relu(n)", outputs), WEIGHTS)
    assert "used twice" in outcome.missed


def test_plain_instance_norm_is_not_worth_a_remark() -> None:
    outcome = untouched(
        FuseGroupNorm(), case("y = InstanceNormalization(x, s, t)"), {"s": (8,), "t": (8,)}
    )
    assert outcome.record.remarks == ()
