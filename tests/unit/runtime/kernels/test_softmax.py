import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.kernels.softmax import exponential_table
from edgefusion.runtime.tensor_numbers import ROW_NORMALISED
from tests.kernel_cases import call, lsb_error, steps


def sqnr_db(y: Array, real: Array) -> float:
    return float(10 * np.log10(np.square(real).sum() / np.square(y - real).sum()))


@given(scale=st.floats(1e-7, 10.0))
def test_exponentials(scale: float) -> None:
    """Bound of the specification: 0.54 steps of 1/32767 for all 65,536 differences."""
    real = 32767 * np.exp(-np.arange(65536) * scale)
    assert np.abs(exponential_table(scale) - real).max() <= 0.54


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_exponentials_of_extreme_scales(scale: float) -> None:
    table = exponential_table(scale)
    assert table[0] == 32767
    assert table[1] == (32767 if scale < 1 else 0)


@pytest.mark.parametrize("spread", [0.01, 0.5, 2.0, 6.0, 20.0])
@pytest.mark.parametrize("keys", [77, 4096])
def test_attention_keeps_more_than_sixty_db(keys: int, spread: float) -> None:
    """Scores of any spread, from uniform rows to one dominant key, then the product with V."""
    rng = np.random.default_rng(keys)
    real_scores = rng.standard_normal((16, keys)) * spread
    scale = float(np.abs(real_scores).max()) / 32767
    scores = steps(real_scores, scale)
    e = call(Opcode.SOFTMAX, np.empty_like(scores), ROW_NORMALISED, [(scores, scale)])
    v = steps(rng.standard_normal((keys, 40)), 1e-4)
    p = np.exp(scores * scale - (scores * scale).max(1, keepdims=True))
    real = p @ (v * 1e-4) / p.sum(1, keepdims=True)
    y_scale = float(np.abs(real).max()) / 32767
    inputs = [(e, ROW_NORMALISED), (v, 1e-4)]
    y = call(Opcode.MATMUL, np.empty((16, 40), np.int16), y_scale, inputs, bias=0)
    assert sqnr_db(y * y_scale, real) > 60


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(1e-5, 1e-2))
def test_probabilities_with_a_scale(seed: int, scale: float) -> None:
    x = np.random.default_rng(seed).integers(-32768, 32768, (5, 77)).astype(np.int16)
    y = call(Opcode.SOFTMAX, np.empty_like(x), 2.0**-15, [(x, scale)])
    p = np.exp((x - x.max(1, keepdims=True).astype(float)) * scale)
    p /= p.sum(1, keepdims=True)
    # Each exponential is half a step of 1/32767 off, and so is the sum of n of them times n.
    assert lsb_error(y, 2.0**-15, p) <= 0.5 + 0.54 + 0.54 * 77 * float(p.max())


def test_rows_are_independent_and_may_be_in_place() -> None:
    x = np.random.default_rng(0).integers(-32768, 32768, (9, 300)).astype(np.int16)
    whole = call(Opcode.SOFTMAX, np.empty_like(x), ROW_NORMALISED, [(x, 1e-3)])
    tile = x[4:6].copy()
    call(Opcode.SOFTMAX, tile, ROW_NORMALISED, [(tile, 1e-3)])
    np.testing.assert_array_equal(tile, whole[4:6])
