"""fold-broadcast: operands that repeat along inner axes become rows and columns of matrices."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.compiler.frontend.legality import refusal
from edgefusion.passes.fold_broadcast import FoldBroadcast, merged
from tests.graph_cases import rewritten, untouched


@pytest.mark.parametrize(
    ("a", "b", "sizes", "first", "second"),
    [
        ((8, 64, 16), (64, 16), (8, 1024), (8, 1024), (1, 1024)),
        ((1, 4, 6, 1), (1, 4, 1, 5), (4, 6, 5), (4, 6, 1), (4, 1, 5)),
        ((3, 1, 5, 6), (2, 1, 1), (3, 2, 30), (3, 1, 30), (1, 2, 1)),
        ((1, 1), (1, 1), (), (), ()),
    ],
)
def test_axes_merge_as_far_as_both_operands_allow(
    a: tuple[int, ...],
    b: tuple[int, ...],
    sizes: tuple[int, ...],
    first: tuple[int, ...],
    second: tuple[int, ...],
) -> None:
    axes = merged(np.broadcast_shapes(a, b), (a, b))
    assert (axes.sizes, axes.shape(0), axes.shape(1)) == (sizes, first, second)


@pytest.mark.parametrize(
    ("inputs", "b", "copies"),
    [
        ("float[2, 8, 6, 4] a, float[6, 4] b", None, 0),
        ("float[2, 8, 6, 4] a, float[8, 1, 1] b", None, 1),
        ("float[1, 8, 6, 4] a, float[8, 1, 1] b", None, 0),
        ("float[1, 8, 6, 4] a", (8, 1, 4), 0),
        ("float[1, 8, 1, 4] a, float[1, 1, 6, 4] b", None, 1),
        ("float[3, 2, 2, 6, 4] a, float[3, 1, 1, 1, 1] b", None, 0),
    ],
)
def test_values_stay_and_the_npu_takes_it(
    inputs: str, b: tuple[int, ...] | None, copies: int
) -> None:
    shapes = [tuple(map(int, part.split("]")[0].split(","))) for part in inputs.split("[")[1:]]
    result = np.broadcast_shapes(*shapes, *([b] if b else []))
    text = f"g ({inputs}) => (float{list(result)} y) {{ y = Sub(b, a) }}"
    outcome = rewritten(FoldBroadcast(), text, {"b": b} if b else {})
    assert outcome.ops.count("Concat") == copies
    (difference,) = (node for node in outcome.graph.nodes if node.op == "Sub")
    assert refusal(difference) == ""


def test_what_repeats_no_more_has_rows_to_cut() -> None:
    text = "g (float[8, 6, 40] a, float[8, 1, 40] b) => (float[8, 6, 40] y) { y = Div(a, b) }"
    outcome = rewritten(
        FoldBroadcast(), text.replace("{", "{ e = Exp(b)").replace("a, b)", "a, e)")
    )
    (quotient,) = (node for node in outcome.graph.nodes if node.op == "Div")
    assert quotient.output.shape == (48, 40)


def test_what_the_vector_engine_repeats_stays() -> None:
    text = "g (float[1, 6, 4] a, float[4] b) => (float[1, 6, 4] y) { y = Sub(a, b) }"
    assert untouched(FoldBroadcast(), text).ops == ["Sub"]


def test_masks_of_infinities_are_the_hosts() -> None:
    mask = np.triu(np.full((6, 4), -np.inf, np.float32), 1)
    text = "g (float[1, 3, 6, 4] a) => (float[1, 3, 6, 4] y) { s = Add(a, b) y = Exp(s) }"
    outcome = untouched(FoldBroadcast(), text, {"b": mask})
    assert refusal(outcome.graph.nodes[0])


def test_activation_that_repeats_too_often_stays() -> None:
    text = "g (float[4, 65, 4] a, float[4, 1, 4] b) => (float[4, 65, 4] y) { y = Add(a, b) }"
    assert "too often" in untouched(FoldBroadcast(), text).missed
