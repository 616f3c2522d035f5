"""normalize-gemm: every combination of Gemm's attributes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgefusion.compiler.graph.weights import DeferredValues
from edgefusion.passes.normalize_gemm import NormalizeGemm
from tests.graph_cases import rewritten, untouched


@pytest.mark.parametrize(
    ("trans_a", "trans_b", "alpha", "beta"),
    list(itertools.product((0, 1), (0, 1), (1.0, 0.3), (1.0, 2.0))),
)
def test_all_attributes(trans_a: int, trans_b: int, alpha: float, beta: float) -> None:
    x = "6, 3" if trans_a else "3, 6"
    outcome = rewritten(
        NormalizeGemm(),
        f"g (float[{x}] x) => (float[3, 5] y) {{ y = Gemm<transA = {trans_a}, transB = {trans_b}, "
        f"alpha = {alpha}, beta = {beta}>(x, w, b) }}",
        {"w": (5, 6) if trans_b else (6, 5), "b": (5,)},
    )
    assert outcome.ops == (["Transpose"] if trans_a else []) + ["MatMul", "Add"]


@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 1), (3, 5), ()])
def test_all_shapes_of_the_bias(shape: tuple[int, ...]) -> None:
    outcome = rewritten(
        NormalizeGemm(),
        "g (float[3, 6] x) => (float[3, 5] y) { y = Gemm<transB = 1>(x, w, b) }",
        {"w": (5, 6), "b": np.asarray(np.random.default_rng(0).random(shape), np.float32)},
    )
    bias = outcome.graph.nodes[-1].inputs[1]
    assert bias.shape == ((5,) if shape == (1, 5) else shape)


def test_without_bias() -> None:
    outcome = rewritten(
        NormalizeGemm(), "g (float[3, 6] x) => (float[3, 5] y) { y = Gemm(x, w) }", {"w": (6, 5)}
    )
    assert outcome.ops == ["MatMul"]


def test_weights_are_not_read_by_the_pass() -> None:
    outcome = rewritten(
        NormalizeGemm(),
        "g (float[3, 6] x) => (float[3, 5] y) { y = Gemm<transB = 1>(x, w) }",
        {"w": (5, 6)},
    )
    assert isinstance(outcome.only.inputs[1].lazy, DeferredValues)


def test_two_activations() -> None:
    outcome = rewritten(
        NormalizeGemm(),
        "g (float[3, 6] x, float[5, 6] w) => (float[3, 5] y) { y = Gemm<transB = 1>(x, w) }",
    )
    assert outcome.ops == ["Transpose", "MatMul"]


def test_alpha_without_constant_weights_is_refused() -> None:
    outcome = untouched(
        NormalizeGemm(),
        "g (float[3, 6] x, float[6, 5] w) => (float[3, 5] y) { y = Gemm<alpha = 0.5>(x, w) }",
    )
    assert "alpha" in outcome.missed


def test_beta_without_constant_bias_is_refused() -> None:
    outcome = untouched(
        NormalizeGemm(),
        "g (float[3, 6] x, float[5] b) => (float[3, 5] y) { y = Gemm<beta = 0.5>(x, w, b) }",
        {"w": (6, 5)},
    )
    assert "beta" in outcome.missed
