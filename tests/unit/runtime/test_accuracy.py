from __future__ import annotations

from math import inf

import numpy as np
import pytest

from edgefusion.runtime.accuracy import NO_NOISE, decibels, noise_of, psnr_db, sqnr_db


def test_sqnr_is_the_ratio_of_powers() -> None:
    signal = np.full(1000, 2.0)
    assert sqnr_db(signal, signal + 0.02) == pytest.approx(40.0)
    assert sqnr_db(signal, signal) == inf
    assert sqnr_db(np.zeros(3), np.ones(3)) == -inf
    assert sqnr_db(signal, signal * np.nan) == -inf


def test_rounding_to_sixteen_bits_costs_what_theory_says() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 100_000)
    rounded = np.rint(values * 32767) / 32767
    assert sqnr_db(values, rounded) == pytest.approx(96.3, abs=0.2)  # 6.02 * 16


def test_parts_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.standard_normal((2, 40))
    parts = noise_of(one[:15], other[:15]) + noise_of(one[15:], other[15:]) + NO_NOISE
    assert parts.sqnr_db == pytest.approx(sqnr_db(one, other))
    assert parts.count == 40


def test_psnr_of_images() -> None:
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert psnr_db(black, grey) == pytest.approx(0.0)
    assert psnr_db(black, black + np.uint8(1)) == pytest.approx(48.13, abs=0.01)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        noise_of(np.zeros(3), np.zeros(4))


def test_decibels_of_nothing() -> None:
    assert decibels(0.0, 0.0) == inf
    assert decibels(0.0, 1.0) == -inf
