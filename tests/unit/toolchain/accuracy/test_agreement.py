"""How near values are, for every kind of value: finite numbers in, finite numbers or infinity out,
never NaN."""

from __future__ import annotations

from math import inf, isnan

import numpy as np
import pytest

from edgefusion.toolchain.accuracy.agreement import Agreement, agreement, centred_agreement

F = np.float32
NOISE = np.random.default_rng(0).standard_normal(1000).astype(F)


def test_numbers_are_measured_by_their_power() -> None:
    assert agreement(NOISE, NOISE * F(1.01)).db == pytest.approx(40, abs=0.01)
    assert agreement(NOISE.astype(np.float16), NOISE).db > 60
    assert agreement(NOISE, NOISE).db == inf


def test_shares_of_indices_and_booleans() -> None:
    labels = np.arange(1000) % 7
    flipped = np.where(np.arange(1000) < 20, labels + 1, labels)
    found = agreement(labels, flipped)
    assert found.equal == pytest.approx(0.98)
    assert not found.passes(0.0)
    assert agreement(labels, labels.astype(F)).passes(200)
    assert agreement(labels > 3, (labels > 3).astype(F)).equal == 1


def test_bytes_are_amounts() -> None:
    picture = (NOISE * 40 + 128).clip(0, 255).astype(np.uint8)
    found = agreement(picture, np.clip(picture.astype(int) + 1, 0, 255))
    assert found.equal is None
    assert found.passes(40)


@pytest.mark.parametrize(
    ("reference", "found", "db", "remark"),
    [
        (np.zeros(4, F), np.zeros(4, F), inf, ""),
        (np.zeros(4, F), np.full(4, 0.01, F), 40, "all zero"),
        (np.full(4, 5, F), np.full(4, 5.05, F), 40, ""),
        (np.empty((0, 3), F), np.empty((0, 3), F), inf, "no values"),
        (np.ones(3, F), np.ones(4, F), -inf, "shape"),
        (np.ones(3, F), np.array([1, 1, np.nan], F), -inf, "1 of 3"),
        (np.array([1, np.inf], F), np.array([1, 65504], F), inf, "1 of 2 values of the reference"),
        (np.array([1, np.nan], F), np.array([2, 1], F), 0, "NaN or infinite"),
        (np.array(3.0, F), np.array([3.0], F), inf, ""),
        (np.zeros(3, bool), np.zeros(3, bool), inf, ""),
    ],
)
def test_degenerate_values(reference: object, found: object, db: float, remark: str) -> None:
    for measure in (agreement, centred_agreement):
        made = measure(np.asarray(reference), np.asarray(found))
        assert not isnan(made.db)
        assert made.db == pytest.approx(db, abs=0.1)
        assert remark in made.remark
        assert made.comparable


def test_a_reference_without_a_finite_value_says_nothing() -> None:
    made = agreement(np.full(3, np.nan, F), np.ones(3, F))
    assert not made.comparable
    assert str(made) == "3 of 3 values of the reference are NaN or infinite"


def test_an_offset_is_no_signal_between_two_computations() -> None:
    shifted = NOISE + F(1000)
    wrong = F(1000) + NOISE[::-1]
    assert agreement(shifted, wrong).db > 50
    assert centred_agreement(shifted, wrong).db < 5
    assert centred_agreement(shifted, shifted + F(1e-4)).db > 60


def test_texts() -> None:
    assert str(Agreement(12.34)) == "12.3 dB"
    assert str(Agreement(3.0, 0.5)) == "50.00 % equal"
    assert str(Agreement(inf)) == "no error"
    assert str(Agreement(-inf, remark="why")) == "nothing in common (why)"
