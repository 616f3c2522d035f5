"""fuse-silu: gates on their own argument, and what only looks like one."""

from __future__ import annotations

import pytest

from edgefusion.passes.fuse_silu import FuseSilu
from tests.graph_cases import rewritten, untouched


@pytest.mark.parametrize("product", ["Mul(x, s)", "Mul(s, x)"])
def test_silu_in_both_operand_orders(product: str) -> None:
    outcome = rewritten(
        FuseSilu(), f"g (float[2, 8] x) => (float[2, 8] y) {{ s = Sigmoid(x) y = {product} }}"
    )
    assert outcome.ops == ["SiLU"]
    assert outcome.only.domain == "edgefusion"


@pytest.mark.parametrize("product", ["Mul(x, s)", "Mul(s, x)"])
@pytest.mark.parametrize("scale", ["Mul(x, f)", "Mul(f, x)"])
def test_quick_gelu_in_all_operand_orders(product: str, scale: str) -> None:
    outcome = rewritten(
        FuseSilu(),
        "g (float[2, 8] x) => (float[2, 8] y) <float f = {1.702}> "
        f"{{ m = {scale} s = Sigmoid(m) y = {product} }}",
    )
    assert outcome.ops == ["QuickGELU"]


def test_another_factor_is_refused() -> None:
    outcome = untouched(
        FuseSilu(),
        "g (float[2, 8] x) => (float[2, 8] y) <float f = {1.5}> "
        "{ m = Mul(x, f) s = Sigmoid(m) y = Mul(x, s) }",
    )
    assert "factor is 1.5" in outcome.missed


def test_gate_on_another_tensor_is_refused() -> None:
    outcome = untouched(
        FuseSilu(),
        "g (float[2, 8] x, float[2, 8] z) => (float[2, 8] y) { s = Sigmoid(x) y = Mul(z, s) }",
    )
    assert "another tensor" in outcome.missed


def test_squared_sigmoid_is_refused() -> None:
    outcome = untouched(
        FuseSilu(), "g (float[2, 8] x) => (float[2, 8] y) { s = Sigmoid(x) y = Mul(s, s) }"
    )
    assert "another tensor" in outcome.missed


def test_sigmoid_that_is_used_elsewhere_is_refused() -> None:
    outcome = untouched(
        FuseSilu(),
        "g (float[2, 8] x) => (float[2, 8] y, float[2, 8] z) "
        "{ s = Sigmoid(x) y = Mul(x, s) z = Relu(s) }",
    )
    assert "also used by" in outcome.missed


def test_sigmoid_that_is_a_result_is_refused() -> None:
    outcome = untouched(
        FuseSilu(),
        "g (float[2, 8] x) => (float[2, 8] y, float[2, 8] s) { s = Sigmoid(x) y = Mul(x, s) }",
    )
    assert "graph output" in outcome.missed


def test_lone_sigmoid_is_not_worth_a_remark() -> None:
    outcome = untouched(FuseSilu(), "g (float[2, 8] x) => (float[2, 8] y) { y = Sigmoid(x) }")
    assert outcome.record.remarks == ()
