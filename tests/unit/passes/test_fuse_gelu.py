"""fuse-gelu: the erf and tanh forms however they are associated, and formulas that are near."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.passes.fuse_gelu import FuseGelu
from tests.graph_cases import Outcome, rewritten, untouched

SCALARS = (
    "<float half = {0.5}, float one = {1.0}, float two = {2.0}, float three = {3.0}, "
    "float root = {1.41421356}, float r = {0.70710678}, float c = {0.044715}, "
    "float t = {0.79788456}>"
)


def case(body: str) -> str:
    return f"g (float[3, 8] x) => (float[3, 8] y) {SCALARS} {{ {body} }}"


RESULTS = [
    "a = Add(f, one) b = Mul(x, a) y = Mul(b, half)",
    "a = Add(one, f) b = Mul(a, x) y = Mul(half, b)",
    "a = Add(f, one) b = Mul(a, half) y = Mul(x, b)",
    "b = Mul(x, half) a = Add(f, one) y = Mul(b, a)",
    "b = Div(x, two) a = Add(f, one) y = Mul(a, b)",
    "b = Mul(x, half) d = Mul(b, f) y = Add(b, d)",
]


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("argument", ["Div(x, root)", "Mul(x, r)", "Mul(r, x)"])
def test_erf_form(argument: str, result: str) -> None:
    outcome = rewritten(FuseGelu(), case(f"m = {argument} f = Erf(m) {result}"))
    assert outcome.ops == ["Gelu"]
    assert outcome.only.get_str("approximate") == "none"


@pytest.mark.parametrize("result", RESULTS[:3])
@pytest.mark.parametrize(
    "argument",
    [
        "p = Pow(x, three) q = Mul(p, c) s = Add(x, q) m = Mul(s, t)",
        "p = Mul(x, x) p3 = Mul(p, x) q = Mul(c, p3) s = Add(q, x) m = Mul(t, s)",
        "p = Mul(x, x) q = Mul(p, c) s = Add(q, one) u = Mul(x, s) m = Mul(t, u)",
        "p = Mul(x, x) q = Mul(p, c) s = Add(one, q) u = Mul(x, t) m = Mul(u, s)",
    ],
)
def test_tanh_form(argument: str, result: str) -> None:
    outcome = rewritten(FuseGelu(), case(f"{argument} f = Tanh(m) {result}"))
    assert outcome.ops == ["Gelu"]
    assert outcome.only.get_str("approximate") == "tanh"


def swap(flip: bool, first: str, second: str) -> str:
    return f"({second}, {first})" if flip else f"({first}, {second})"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=6, max_size=6), st.sampled_from(["half_x", "half_a"]))
def test_tanh_form_in_any_operand_order(flips: list[bool], where: str) -> None:
    body = (
        "p = Mul(x, x) "
        f"p3 = Mul{swap(flips[0], 'p', 'x')} q = Mul{swap(flips[1], 'p3', 'c')} "
        f"s = Add{swap(flips[2], 'x', 'q')} m = Mul{swap(flips[3], 's', 't')} f = Tanh(m) "
        f"a = Add{swap(flips[4], 'f', 'one')} "
    )
    if where == "half_x":
        body += f"b = Mul(half, x) y = Mul{swap(flips[5], 'a', 'b')}"
    else:
        body += f"b = Mul(half, a) y = Mul{swap(flips[5], 'x', 'b')}"
    assert rewritten(FuseGelu(), case(body)).ops == ["Gelu"]


def test_argument_of_gelu_may_be_a_sum() -> None:
    outcome = rewritten(
        FuseGelu(),
        "g (float[3, 8] z) => (float[3, 8] y) "
        f"{SCALARS} {{ x = Add(z, z) m = Mul(x, r) f = Erf(m) {RESULTS[0]} }}",
    )
    assert outcome.ops == ["Add", "Gelu"]


def refused(body: str) -> Outcome:
    return untouched(FuseGelu(), case(body))


def test_minus_one_is_refused() -> None:
    outcome = refused("m = Mul(x, r) f = Erf(m) a = Sub(f, one) b = Mul(x, a) y = Mul(b, half)")
    assert "not 0.5 x (1 + t)" in outcome.missed


def test_constant_that_adds_an_axis_is_refused() -> None:
    outcome = untouched(
        FuseGelu(),
        "g (float[3, 8] x) => (float[1, 3, 8] y) <float[1, 1, 1] half3 = {0.5}, "
        f"{SCALARS[1:]} {{ m = Mul(x, r) f = Erf(m) a = Add(f, one) b = Mul(x, a) "
        "y = Mul(b, half3) }",
    )
    assert "not 0.5 x (1 + t)" in outcome.missed


def test_gate_on_another_tensor_is_refused() -> None:
    outcome = untouched(
        FuseGelu(),
        "g (float[3, 8] x, float[3, 8] z) => (float[3, 8] y) "
        f"{SCALARS} {{ m = Mul(x, r) f = Erf(m) a = Add(f, one) b = Mul(z, a) y = Mul(b, half) }}",
    )
    assert "not 0.5 x (1 + t)" in outcome.missed


def test_other_argument_is_no_gelu() -> None:
    assert refused(f"m = Mul(x, half) f = Erf(m) {RESULTS[0]}").record.remarks == ()
    assert refused(f"f = Tanh(x) {RESULTS[0]}").record.remarks == ()


def test_difference_in_the_argument_is_no_gelu() -> None:
    body = "p = Pow(x, three) q = Mul(p, c) s = Sub(x, q) m = Mul(s, t) f = Tanh(m)"
    assert refused(f"{body} {RESULTS[0]}").record.remarks == ()


def test_erf_that_is_used_elsewhere_is_refused() -> None:
    outcome = untouched(
        FuseGelu(),
        "g (float[3, 8] x) => (float[3, 8] y, float[3, 8] z) "
        f"{SCALARS} {{ m = Mul(x, r) f = Erf(m) a = Add(f, one) z = Relu(a) b = Mul(x, a) "
        "y = Mul(b, half) }",
    )
    assert outcome.record.missed == 1
