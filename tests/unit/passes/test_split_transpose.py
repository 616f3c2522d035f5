"""split-transpose: any order of axes in steps of four, and views on both sides become one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgefusion.compiler.frontend.legality import refusal
from edgefusion.passes.split_transpose import SplitTranspose, merged, steps
from tests.graph_cases import rewritten, untouched


@pytest.mark.parametrize(
    ("shape", "perm", "sizes", "order"),
    [
        ((2, 3, 4, 5), (0, 1, 2, 3), (120,), (0,)),
        ((2, 3, 4, 5), (0, 2, 1, 3), (2, 3, 4, 5), (0, 2, 1, 3)),
        ((2, 3, 1, 5), (2, 3, 0, 1), (6, 5), (1, 0)),
        ((1, 4, 7, 4, 7, 8), (0, 1, 3, 2, 4, 5), (4, 7, 4, 56), (0, 2, 1, 3)),
    ],
)
def test_axes_that_stay_together_are_one(
    shape: tuple[int, ...], perm: tuple[int, ...], sizes: tuple[int, ...], order: tuple[int, ...]
) -> None:
    assert merged(shape, perm) == (sizes, order)


@pytest.mark.parametrize("rank", [3, 5])
def test_steps_lead_to_every_order(rank: int) -> None:
    for order in itertools.permutations(range(rank)):
        path = steps(order)
        assert [*path, order][-1] == order
        assert len(path) <= (1 if rank <= 4 else 2)


@pytest.mark.parametrize(
    ("shape", "perm", "transposes"),
    [
        ((1, 2, 3, 2, 3, 4), (0, 1, 3, 2, 4, 5), 1),
        ((2, 3, 4, 2, 2), (0, 1, 4, 2, 3), 1),
        ((1, 2, 3, 4, 2, 2), (0, 1, 4, 2, 5, 3), 2),
        ((2, 3, 2, 3, 2, 3), (5, 3, 1, 4, 2, 0), 2),
        ((1, 2, 1, 3), (1, 0, 3, 2), 0),
        ((1, 2, 3, 4, 5), (2, 0, 1, 4, 3), 1),
    ],
)
@pytest.mark.parametrize("end", ["output", "view", "both"])
def test_values_stay_and_the_npu_takes_it(
    shape: tuple[int, ...], perm: tuple[int, ...], transposes: int, end: str
) -> None:
    moved = [shape[axis] for axis in perm]
    size = int(np.prod(shape))
    ends = {"output": f"float{moved} t", "view": f"float[{size}] y"}
    ends["both"] = f"{ends['view']}, {ends['output']}"
    body = f"r = Reshape(x, split) t = Transpose<perm = {list(perm)}>(r) y = Reshape(t, flat)"
    text = f"g (float[{size}] x) => ({ends[end]}) {{ {body} }}"
    weights = {"split": np.asarray(shape), "flat": np.asarray([size])}
    if len(shape) <= 4:
        untouched(SplitTranspose(), text, weights)
        return
    outcome = rewritten(SplitTranspose(), text, weights)
    assert outcome.ops.count("Transpose") == transposes
    for node in outcome.graph.nodes:
        assert node.op == "Reshape" or refusal(node) == ""
