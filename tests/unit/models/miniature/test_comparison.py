from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import bootstrap

from edgefusion.models.miniature import claims
from edgefusion.models.miniature.comparison import paired_difference
from edgefusion.models.miniature.evaluation import Judgement

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.3, (1, 200))


def test_one_repetition_is_the_bootstrap_of_scipy() -> None:
    shifted = (NOISE + 0.05).tolist()
    ours = paired_difference(shifted, np.zeros_like(NOISE).tolist())
    theirs = bootstrap(
        (np.array(shifted[0]),), np.mean, method="percentile", n_resamples=4000, rng=1
    ).confidence_interval
    assert ours.mean == pytest.approx(np.mean(shifted))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_pairing_removes_what_both_share() -> None:
    first = NOISE + 0.02 + RNG.normal(0, 0.01, NOISE.shape)
    difference = paired_difference(first.tolist(), NOISE.tolist())
    assert difference.low > 0
    assert difference.share_above == 1.0
    shuffled = paired_difference(first.tolist(), NOISE[:, ::-1].tolist())
    assert shuffled.low < 0 < shuffled.high


def test_repetitions_that_disagree_widen_the_interval() -> None:
    steady = np.full((3, 50), 0.1)
    split = steady + np.array([[0.3], [-0.3], [0.0]])
    alone = paired_difference(steady.tolist(), np.zeros((3, 50)).tolist())
    assert alone.high - alone.low == pytest.approx(0)
    apart = paired_difference(split.tolist(), np.zeros((3, 50)).tolist())
    assert apart.low < 0 < apart.high


def test_scores_that_do_not_pair() -> None:
    with pytest.raises(ValueError, match="do not pair"):
        paired_difference([[1.0, 2.0]], [[1.0]])


@pytest.mark.parametrize(
    ("shift", "margin", "verdict"),
    [
        (0.2, None, "held"),
        (-0.2, None, "failed"),
        (0.0, None, "not shown"),
        (0.0, 0.1, "held"),
        (0.2, 0.1, "failed"),
        (0.1, 0.1, "not shown"),
    ],
)
def test_verdicts(shift: float, margin: float | None, verdict: str) -> None:
    judged = {
        "a": {"2": Judgement((NOISE[0] + shift).tolist(), [])},
        "b": {"2": Judgement([0.0] * 200, [])},
    }
    row = claims.tested(claims.Claim("", "", ("a", 2), ("b", 2), margin), [judged])
    assert row is not None
    assert row["verdict"] == verdict
    assert claims.tested(claims.Claim("", "", ("a", 4), ("b", 2), margin), [judged]) is None


@pytest.mark.parametrize(
    ("shift", "verdict"), [(-2.0, "held"), (2.0, "failed"), (0.0, "not shown")]
)
def test_the_smaller_distance_is_the_better(shift: float, verdict: str) -> None:
    spread = RNG.normal(0, 0.5, 200).tolist()
    judged = {
        "a": {"2": Judgement([], [5.0 + shift, *(5.0 + shift + value for value in spread)])},
        "b": {"2": Judgement([], [5.0] * 201)},
    }
    claim = claims.Claim("", "", ("a", 2), ("b", 2), by_distance=True)
    row = claims.tested_by_distance(claim, [judged, judged, judged])
    assert row is not None
    assert (row["first_score"], row["second_score"]) == (5.0 + shift, 5.0)
    assert row["difference"] == pytest.approx(shift)
    assert row["low"] < shift < row["high"]
    assert row["verdict"] == verdict
    assert claims.tested_by_distance(replace(claim, by_distance=False), [judged]) is None


def test_a_network_that_one_repetition_lacks_is_not_compared() -> None:
    whole = {name: {"2": Judgement([1.0, 0.0], [1.0, 1.0])} for name in "ab"}
    claim = claims.Claim("", "", ("a", 2), ("b", 2))
    assert claims.tested(claim, [whole, whole]) is not None
    assert claims.tested(claim, [whole, {"a": whole["a"]}]) is None
