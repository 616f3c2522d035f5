"""fold-resize: doubling goes into convolutions, and only doubling, and only there."""

from __future__ import annotations

import pytest

from edgefusion.passes.channels_last import ChannelsLast
from edgefusion.passes.fold_resize import FoldResize
from tests.graph_cases import Outcome
from tests.layout_cases import chained, reasons

WEIGHTS = {"w": (8, 8, 3, 3), "b": (8,), "k": (4, 8, 1, 1)}
PADDED = "Conv<pads = [1, 1, 1, 1]>"
ASYMMETRIC = 'coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"'


def folded(body: str, outputs: str = "float[1, 8, 12, 8] y", scale: str = "1, 1, 2, 2") -> Outcome:
    return chained(
        [ChannelsLast(), FoldResize()],
        f"g (float[1, 8, 6, 4] x) => ({outputs}) <float[4] s = {{{scale}}}> {{ {body} }}",
        WEIGHTS,
    )


@pytest.mark.parametrize("modes", [ASYMMETRIC, 'nearest_mode = "round_prefer_floor"'])
def test_doubling_goes_into_the_convolution(modes: str) -> None:
    outcome = folded(
        f'r = Resize<mode = "nearest", {modes}>(x, , s) y = Conv<pads = [1, 1, 1, 1]>(r, w, b)'
    )
    assert outcome.ops == ["Transpose", "ConvLast_up2_bias", "Transpose"]
    assert outcome.graph.nodes[1].origin == ("Resize_r", "Conv_y")


def test_two_convolutions_both_double() -> None:
    outcome = folded(
        f'r = Resize<mode = "nearest", {ASYMMETRIC}>(x, , s) y = Conv<pads = [1, 1, 1, 1]>(r, w) '
        "z = Conv(r, k)",
        "float[1, 8, 12, 8] y, float[1, 4, 12, 8] z",
    )
    assert sorted(outcome.ops).count("ConvLast_up2") == 2
    assert "Resize" not in outcome.ops


@pytest.mark.parametrize(
    ("body", "outputs", "scale", "reason"),
    [
        (
            (
                f'r = Resize<mode = "nearest", {ASYMMETRIC}>(x, , s) y = Relu(r) '
                "z = Conv<pads = [1, 1, 1, 1]>(r, w)"
            ),
            "float[1, 8, 12, 8] y, float[1, 8, 12, 8] z",
            "1, 1, 2, 2",
            "read by Relu",
        ),
        (
            f'r = Resize<mode = "nearest", {ASYMMETRIC}>(x, , s) y = {PADDED}(r, w)',
            "float[1, 8, 18, 12] y",
            "1, 1, 3, 3",
            "only nearest-neighbour doubling",
        ),
        (
            (
                f'r = Resize<mode = "nearest", {ASYMMETRIC}>(x, , s) c = {PADDED}(r, w) '
                "y = Add(c, r)"
            ),
            "float[1, 8, 12, 8] y",
            "1, 1, 2, 2",
            "read by Add",
        ),
    ],
)
def test_near_matches_are_refused(body: str, outputs: str, scale: str, reason: str) -> None:
    outcome = folded(body, outputs, scale)
    assert not outcome.record.changed
    assert any(reason in text for text in reasons(outcome, "missed"))
