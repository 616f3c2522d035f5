"""fold-batch-norm: into the convolution before it, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.passes.fold_batch_norm import FoldBatchNorm
from tests.graph_cases import Weights, rewritten, untouched

WEIGHTS: Weights = {
    "w": (6, 4, 3, 3),
    "b": (6,),
    "gamma": (6,),
    "beta": (6,),
    "mean": (6,),
    "variance": np.linspace(0.5, 3.0, 6, dtype=np.float32),
}
NORM = "y = BatchNormalization<epsilon = 1e-3>(c, gamma, beta, mean, variance)"


def case(body: str, outputs: str = "float[1, 6, 5, 5] y") -> str:
    return f"g (float[1, 4, 5, 5] x) => ({outputs}) {{ {body} }}"


@pytest.mark.parametrize("operands", ["x, w", "x, w, b"])
def test_with_and_without_bias(operands: str) -> None:
    conv = f"c = Conv<pads = [1, 1, 1, 1]>({operands})"
    outcome = rewritten(FoldBatchNorm(), case(f"{conv} {NORM}"), WEIGHTS)
    assert outcome.ops == ["Conv"]
    assert outcome.only.get_ints("pads") == (1, 1, 1, 1)


def test_grouped_convolution() -> None:
    conv = "c = Conv<pads = [1, 1, 1, 1], group = 2>(x, w)"
    weights = {**WEIGHTS, "w": (6, 2, 3, 3)}
    assert rewritten(FoldBatchNorm(), case(f"{conv} {NORM}"), weights).ops == ["Conv"]


def test_convolution_that_is_used_elsewhere_is_refused() -> None:
    body = f"c = Conv<pads = [1, 1, 1, 1]>(x, w) {NORM} z = Relu(c)"
    outcome = untouched(
        FoldBatchNorm(), case(body, "float[1, 6, 5, 5] y, float[1, 6, 5, 5] z"), WEIGHTS
    )
    assert "used elsewhere" in outcome.missed


def test_norm_of_something_else_is_refused() -> None:
    weights = {k: v[:4] if isinstance(v, np.ndarray) else (4,) for k, v in WEIGHTS.items()}
    del weights["w"], weights["b"]
    outcome = untouched(
        FoldBatchNorm(), case(f"c = Relu(x) {NORM}", "float[1, 4, 5, 5] y"), weights
    )
    assert "convolution" in outcome.missed
