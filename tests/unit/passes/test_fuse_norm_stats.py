"""fuse-norm-stats: producers sum for the norm, when the tensor is large and the producer can."""

from __future__ import annotations

import pytest

from edgefusion.passes.channels_last import ChannelsLast
from edgefusion.passes.fuse_epilogue import FuseEpilogue
from edgefusion.passes.fuse_group_norm import FuseGroupNorm
from edgefusion.passes.fuse_norm_stats import FuseNormStats
from tests.graph_cases import Outcome
from tests.layout_cases import chained

WEIGHTS = {
    "w": (8, 8, 3, 3), "b": (8,), "k": (8, 8),
    "gamma": (8, 1, 1), "beta": (8, 1, 1), "gamma2": (8, 1), "beta2": (8, 1),
}  # fmt: skip
HEAD = (
    "g (float[1, 8, 6, 4] x) => (float[1, 8, 6, 4] y) <int64[3] grouped = {1, 2, 96}, "
    "int64[4] image = {1, 8, 6, 4}, int64[3] flat = {1, 8, 24}, int64[3] tokens = {1, 24, 8}, "
    "float[2] one = {1, 1}, float[2] nil = {0, 0}>"
)
CONV = "c = Conv<pads = [1, 1, 1, 1]>(x, w, b)"


def norm(source: str, result: str, like: str = "image", suffix: str = "") -> str:
    """The exporter's GroupNorm of two groups."""
    return (
        f"i_{result} = Reshape({source}, grouped) "
        f"n_{result} = InstanceNormalization<epsilon = 0.00001>(i_{result}, one, nil) "
        f"r_{result} = Reshape(n_{result}, {like}) s_{result} = Mul(r_{result}, gamma{suffix}) "
        f"{result} = Add(s_{result}, beta{suffix})"
    )


def summed(body: str, threshold_bytes: int = 0, tolerance: float = 2e-5) -> Outcome:
    return chained(
        [FuseGroupNorm(), ChannelsLast(), FuseEpilogue(), FuseNormStats(threshold_bytes)],
        f"{HEAD} {{ {body} }}",
        WEIGHTS,
        tolerance=tolerance,
    )


def test_convolution_sums_for_the_norm() -> None:
    outcome = summed(f"{CONV} {norm('c', 'y')}")
    assert outcome.ops == [
        "Transpose", "ConvLast_bias_stats", "GroupNormLast_stats", "Transpose"
    ]  # fmt: skip
    assert outcome.graph.nodes[1].outputs[1].shape == (2, 8)


def test_residual_sum_is_summed_and_still_read() -> None:
    outcome = summed(f"{CONV} a = Add(c, x) {norm('a', 'm')} y = Add(m, a)")
    assert "ConvLast_bias_add_stats" in outcome.ops


def test_two_norms_share_statistics() -> None:
    outcome = summed(f"{CONV} {norm('c', 'p')} {norm('c', 'q')} y = Add(p, q)")
    assert outcome.ops.count("GroupNormLast_stats") == 2
    assert outcome.ops.count("ConvLast_bias_stats") == 1


def test_views_between_are_looked_through() -> None:
    outcome = summed(
        f"{CONV} f = Reshape(c, flat) {norm('f', 'm', 'flat', '2')} y = Reshape(m, image)"
    )
    assert "GroupNormLast_stats" in outcome.ops


@pytest.mark.parametrize(
    ("body", "threshold_bytes", "reason"),
    [
        (f"{CONV} {norm('c', 'y')}", 384, "normalised in SRAM"),
        (f"{CONV} r = Sin(c) {norm('r', 'y')}", 0, "comes from Sin"),
        (norm("x", "y"), 0, "comes from Transpose"),
    ],
)
def test_near_matches_are_refused(body: str, threshold_bytes: int, reason: str) -> None:
    outcome = summed(body, threshold_bytes)
    assert not outcome.record.changed
    assert reason in outcome.missed


def test_one_byte_more_than_the_threshold_is_fused() -> None:
    assert summed(f"{CONV} {norm('c', 'y')}", 383).record.changed
