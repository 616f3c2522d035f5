import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.kernels.norm_arithmetic import SEEDS, reciprocal_sqrt, variance_sum
from edgefusion.runtime.tensor_numbers import PLAIN
from tests.function_reference import reference
from tests.kernel_cases import call


@settings(deadline=None)
@given(st.integers(1, (1 << 62) - 1) | st.integers(0, 61).map(lambda k: 1 << k))
def test_reciprocal_square_root(value: int) -> None:
    r, k = reciprocal_sqrt(value, SEEDS)
    assert abs(r * 2.0**-30 * 2.0**-k * np.sqrt(float(value)) - 1) < 2.0**-19


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 1 << 20), st.sampled_from([0, 1, 300, 16384]))
def test_variance_is_exact_to_its_last_bit(seed: int, count: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    mean = int(rng.integers(-32768 + spread, 32768 - spread))
    total, squares = mean * count, count * (mean * mean + spread * spread)
    if seed % 2 and count > 1:  # a mean that is no integer
        total, squares = total + 1, squares + 2 * mean + 1
    exact = (squares * count - total * total) * 256
    assert 0 <= variance_sum(total, squares, count) * count - exact < count


def normalised(x: Array, gamma: Array, beta: Array, epsilon: float, groups: int) -> Array:
    grouped = x.reshape(len(x), groups, -1)
    mean = grouped.mean((0, 2), keepdims=True)
    sigma = np.sqrt(grouped.var((0, 2), keepdims=True) + epsilon)
    made: Array = ((grouped - mean) / sigma).reshape(x.shape) * gamma + beta
    return made


def bound(y: Array, gamma: Array, sigma_steps: float, y_scale: float) -> Array:
    """0.5, the reciprocal root to 2^-18 of the result, the mean to 2^-15 of an input step."""
    made: Array = 0.51 + np.abs(y) * 2.0**-18 + np.abs(gamma) * 2.0**-15 / (sigma_steps * y_scale)
    return made


@pytest.mark.parametrize("name", ["", "silu"])
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    spread=st.floats(5, 9000),
    offset=st.integers(-20000, 20000),
    x_scale=st.floats(1e-5, 1e-2),
    split=st.integers(1, 39),
)
def test_group_norm(
    name: str, seed: int, spread: float, offset: int, x_scale: float, split: int
) -> None:
    """Statistics in two instructions, normalisation in two: the same values as at once."""
    rng = np.random.default_rng(seed)
    x = np.clip(rng.standard_normal((40, 12)) * spread + offset, -32768, 32767).astype(np.int16)
    gamma, beta = rng.standard_normal((2, 12)).astype(np.float32)
    real = normalised(x * x_scale, gamma, beta, 1e-5, 4)
    y_scale = max(float(np.abs(real).max()), 12.0) / 32767
    stats = np.full((2, 12), 99, np.int64)
    parts = (slice(0, split), slice(split, 40))
    for i, part in enumerate(parts):
        call(Opcode.CHANNEL_STATS, stats, PLAIN, [(x[part], x_scale)], first=int(i == 0))
    wide = x.astype(np.int64)
    np.testing.assert_array_equal(stats, [wide.sum(0), (wide**2).sum(0)])
    y = np.empty_like(x)
    for part in parts:
        inputs = [(x[part], x_scale), (stats, PLAIN), (gamma, PLAIN), (beta, PLAIN)]
        attrs = {"groups": 4, "epsilon": 1e-5, "function": name, "rows": 40}
        call(Opcode.GROUP_NORM, y[part], y_scale, inputs, **attrs)
    sigma = np.sqrt(x.reshape(40, 4, 3).var((0, 2)).min() + 1e-5 / x_scale**2)
    limit = bound(real / y_scale, gamma, sigma, y_scale)
    if name:
        real, limit = reference(name, real), 1.1 * limit + 0.6
    assert np.all(np.abs(y - real / y_scale) <= limit)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    spread=st.floats(0.5, 9000),
    offset=st.integers(-20000, 20000),
    x_scale=st.floats(1e-5, 1e-2),
    with_beta=st.booleans(),
)
def test_layer_norm(seed: int, spread: float, offset: int, x_scale: float, with_beta: bool) -> None:
    rng = np.random.default_rng(seed)
    x = np.clip(rng.standard_normal((5, 320)) * spread + offset, -32768, 32767).astype(np.int16)
    gamma, beta = rng.standard_normal((2, 320)).astype(np.float32)
    beta = beta if with_beta else np.zeros(320, np.float32)
    real = np.vstack([normalised(row[None] * x_scale, gamma, beta, 1e-5, 1) for row in x])
    y_scale = float(np.abs(real).max()) / 32767
    inputs = [(x, x_scale), (gamma, PLAIN)] + ([(beta, PLAIN)] if with_beta else [])
    y = np.empty_like(x)
    call(Opcode.LAYER_NORM, y, y_scale, inputs, beta=int(with_beta), epsilon=1e-5)
    sigma = np.sqrt(x.var(1).min() + 1e-5 / x_scale**2)
    limit = bound(real / y_scale, gamma, sigma, y_scale)
    limit += np.abs(real / y_scale) * 3 * 2.0**-10 / (320 * sigma**2)  # variance and epsilon, whole
    assert np.all(np.abs(y - real / y_scale) <= limit)


@pytest.mark.parametrize(("gamma", "y_scale"), [(0.0, 1e-3), (1e6, 1e-6), (1e-9, 10.0)])
def test_extreme_parameters(gamma: float, y_scale: float) -> None:
    x = np.array([[-32768, 32767, 0, 5]], np.int16)
    parameters = np.full(4, gamma, np.float32)
    y = call(
        Opcode.LAYER_NORM, np.empty_like(x), y_scale, [(x, 1.0), (parameters, PLAIN)], epsilon=1e-5
    )
    real = normalised(x.astype(float), parameters, np.zeros(4), 1e-5, 1) / y_scale
    assert np.abs(y - np.clip(real, -32768, 32767)).max() <= 0.6


def rms_normalised(x: Array, gamma: Array, epsilon: float) -> Array:
    made: Array = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * gamma
    return made


def rms_bound(y: Array, x: Array, epsilon_steps: float) -> Array:
    """0.51, the reciprocal root to 2^-18 of the result, the integer of epsilon to half a step.

    ``x`` and ``epsilon_steps`` in input steps (squared), ``y`` in result steps.
    """
    powers = (x.astype(float) ** 2 + epsilon_steps).sum(axis=-1, keepdims=True)
    made: Array = 0.51 + np.abs(y) * (2.0**-18 + 2.0**-10 / powers)
    return made


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 400),
    spread=st.sampled_from([0.0, 0.2, 1.0]) | st.floats(1, 9000),
    offset=st.integers(-20000, 20000) | st.just(0),
    x_scale=st.floats(1e-5, 1.0),
    epsilon=st.sampled_from([1e-12, 1.1920929e-07, 1e-5, 1e-2]),
)
def test_rms_norm(
    seed: int, count: int, spread: float, offset: int, x_scale: float, epsilon: float
) -> None:
    rng = np.random.default_rng(seed)
    x = np.rint(rng.standard_normal((5, count)) * spread + offset)
    x = np.clip(x, -32768, 32767).astype(np.int16)
    gamma = rng.standard_normal(count).astype(np.float32)
    real = rms_normalised(x * x_scale, gamma, epsilon)
    y_scale = float(np.abs(real).max()) / 32767 or 1.0
    y = np.empty_like(x)
    call(Opcode.RMS_NORM, y, y_scale, [(x, x_scale), (gamma, PLAIN)], epsilon=epsilon)
    limit = rms_bound(real / y_scale, x, epsilon / x_scale**2)
    assert np.all(np.abs(y - real / y_scale) <= limit)


@pytest.mark.parametrize("value", [-32768, 32767])
def test_rms_norm_of_the_longest_row_of_the_largest_values(value: int) -> None:
    x = np.full((1, 1 << 20), value, np.int16)
    gamma = np.linspace(-2, 2, 1 << 20, dtype=np.float32)
    y = np.empty_like(x)
    call(Opcode.RMS_NORM, y, 2 / 32767, [(x, 1.0), (gamma, PLAIN)], epsilon=1e-5)
    real = rms_normalised(x.astype(float), gamma.astype(float), 1e-5) * 32767 / 2
    assert np.all(np.abs(y - real) <= rms_bound(real, x, 1e-5))


@pytest.mark.parametrize(("gamma", "y_scale"), [(0.0, 1e-3), (1e6, 1e-6), (-1e6, 1e-6), (1e-9, 10)])
def test_rms_norm_with_extreme_parameters(gamma: float, y_scale: float) -> None:
    x = np.array([[-32768, 32767, 0, 5], [0, 0, 0, 0], [0, -1, 0, 0]], np.int16)
    parameters = np.full(4, gamma, np.float32)
    y = np.empty_like(x)
    call(Opcode.RMS_NORM, y, y_scale, [(x, 1.0), (parameters, PLAIN)], epsilon=1e-5)
    real = rms_normalised(x.astype(float), parameters.astype(float), 1e-5) / y_scale
    assert np.abs(y - np.clip(real, -32768, 32767)).max() <= 0.6
