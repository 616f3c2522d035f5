"""Symbolic views against numpy: atoms move exactly as elements do."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import event, given
from hypothesis import strategies as st

from edgefusion.passes.axis_atoms import Dims, dims, reshaped

SIZES = {"n": 2, "l": 3, "h": 5, "d": 7}
ATOMS = dims(*([item] for item in SIZES.items()))


def array(state: Dims) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The base array as ``state`` says it is arranged."""
    base = np.arange(prod(SIZES.values())).reshape(tuple(SIZES.values()))
    order = [list(SIZES).index(name) for axis in state for name, _ in axis]
    shape = tuple(prod(size for _, size in axis) for axis in state)
    return base.transpose(order).reshape(shape)


@st.composite
def shapes(draw: st.DrawFn) -> list[int]:
    """Factors of 210 in any order and grouping, with ones in between."""
    factors = draw(st.permutations([2, 3, 5, 7, 1, 1]))
    cuts = draw(st.lists(st.booleans(), min_size=6, max_size=6))
    shape = [1]
    for factor, cut in zip(factors, cuts, strict=True):
        if cut:
            shape.append(factor)
        else:
            shape[-1] *= factor
    return shape


@given(st.permutations(range(4)), shapes())
def test_reshape_of_a_permutation(order: list[int], shape: list[int]) -> None:
    before = tuple(ATOMS[axis] for axis in order)
    after = reshaped(before, shape)
    event("cuts an atom" if after is None else "regroups")
    if after is not None:
        np.testing.assert_array_equal(array(after), array(before).reshape(shape))


@given(st.permutations(range(4)), st.lists(st.booleans(), min_size=3, max_size=3))
def test_any_merge_and_split_of_neighbours_is_possible(order: list[int], cuts: list[bool]) -> None:
    before = tuple(ATOMS[axis] for axis in order)
    groups = [list(before[0])]
    for axis, cut in zip(before[1:], cuts, strict=True):
        if cut:
            groups.append(list(axis))
        else:
            groups[-1] += axis
    merged = reshaped(before, [prod(size for _, size in group) for group in groups])
    assert merged == tuple(tuple(group) for group in groups)
    assert reshaped(merged, [prod(size for _, size in axis) for axis in before]) == before


def test_regrouping_and_cutting() -> None:
    tokens = dims([("n", 2)], [("l", 3)], [("h", 5), ("d", 7)])
    assert reshaped(tokens, (2, 3, 5, 7)) == ATOMS
    assert reshaped(tokens, (6, 35)) is not None
    assert reshaped(tokens, (2, 3, 7, 5)) is None, "cuts heads and depth"
    assert reshaped(tokens, (2, 3, 5)) is None, "loses elements"
    assert reshaped(tokens, (2, 3, 5, 7, 2)) is None, "invents elements"


def test_axes_of_size_one_do_not_count() -> None:
    assert dims([("n", 1)], [("l", 3)]) == ((), (("l", 3),))
    assert reshaped(dims([("n", 1)], [("l", 3)]), (3, 1, 1)) == ((("l", 3),), (), ())
