"""CONV2D against LiteRT's CONV_2D 16x8, bit for bit, from committed vectors and live."""

from pathlib import Path

import numpy as np
import pytest

from tests.differential import litert_oracle
from tests.differential.conv_cases import CASES, ConvCase, operands
from tests.differential.conv_kernel import run_kernel

VECTORS = Path(__file__).parents[1] / "data" / "vectors" / "conv_litert.npz"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_committed_results(case: ConvCase) -> None:
    with np.load(VECTORS) as vectors:
        np.testing.assert_array_equal(run_kernel(case), vectors[case.name])


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_live(case: ConvCase) -> None:
    pytest.importorskip("ai_edge_litert")
    x, w, bias, scales = operands(case)
    expected = litert_oracle.conv2d(x, w, bias, case.x_scale, scales, case.y_scale, 1)
    np.testing.assert_array_equal(run_kernel(case), expected)


def test_cases_saturate_at_both_ends() -> None:
    with np.load(VECTORS) as vectors:
        values = np.concatenate([vectors[name].ravel() for name in vectors.files])
    assert values.min() == -32768
    assert values.max() == 32767
