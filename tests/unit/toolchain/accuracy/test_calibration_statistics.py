"""Streaming statistics against their definitions on all values at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefusion.toolchain.accuracy.calibration_statistics import Statistics

RNG = np.random.default_rng(5)


@given(st.lists(st.lists(st.floats(-1e9, 1e9, width=32), max_size=20), max_size=6))
def test_parts_add_up_to_the_whole(parts: list[list[float]]) -> None:
    streamed, whole = Statistics(), Statistics()
    for part in parts:
        streamed.add(np.array(part, np.float32))
    values = np.array([v for part in parts for v in part], np.float32)
    whole.add(values)
    assert (streamed.low, streamed.high, streamed.count) == (whole.low, whole.high, whole.count)
    np.testing.assert_array_equal(streamed.histogram, whole.histogram)
    if values.size:
        assert (streamed.low, streamed.high) == (values.min(), values.max())
        assert streamed.histogram.sum() == values.size


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999, 0.9999, 1.0])
def test_quantiles_are_within_a_bin_from_above(share: float) -> None:
    values = RNG.standard_normal(100_000).astype(np.float32) * 3
    statistics = Statistics()
    statistics.add(values)
    exact = np.quantile(np.abs(values), share, method="inverted_cdf")
    assert exact <= statistics.quantile(share) <= exact * (1 + 1 / 64)


def test_the_limit_of_least_error_is_the_best_of_all_limits() -> None:
    values = RNG.standard_normal(200_000).astype(np.float32)
    values[:2] = 5000.0
    statistics = Statistics()
    statistics.add(values)

    def error(limit: float) -> float:
        step = limit / 32767
        rounded = np.clip(np.rint(values.astype(np.float64) / step), -32767, 32767) * step
        return float(np.square(rounded - values).sum())

    chosen = statistics.least_error()
    best = min(map(error, np.geomspace(4, 5000, 60)))
    assert error(chosen) <= best * 1.05
    normal = Statistics()
    normal.add(values[2:])
    assert normal.least_error() == pytest.approx(normal.largest, rel=0.02)


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    statistics = Statistics()
    statistics.add(np.array([1.0, np.nan, -np.inf, np.inf, -2.0], np.float32))
    assert (statistics.not_finite, statistics.low, statistics.high) == (3, -2.0, 1.0)


def test_zeros_and_extremes_have_a_place() -> None:
    statistics = Statistics()
    statistics.add(np.array([0.0, 1e-30, 3e38], np.float32))
    assert statistics.histogram[0] == 2
    assert statistics.histogram[-1] == 1
    assert statistics.quantile(1.0) <= statistics.largest
    zeros = Statistics()
    zeros.add(np.zeros(3, np.float32))
    assert (zeros.largest, zeros.quantile(0.999), zeros.least_error()) == (0.0, 0.0, 0.0)
