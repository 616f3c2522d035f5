"""Overlap of strided views, against the sets of bytes themselves."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.runtime.overlap import views_overlap

View = tuple[int, tuple[int, ...], tuple[int, ...], int]


def byte_set(view: View) -> set[int]:
    address, shape, strides, itemsize = view
    return {
        address + sum(i * s for i, s in zip(index, strides, strict=True)) + byte
        for index in np.ndindex(*shape)
        for byte in range(itemsize)
    }


def overlap(a: View, b: View) -> bool:
    arrays = [
        (v[0], np.array(v[1], dtype=np.int64), np.array(v[2], dtype=np.int64), v[3]) for v in (a, b)
    ]
    return bool(views_overlap(*arrays[0], *arrays[1]))


@st.composite
def any_views(draw: st.DrawFn) -> View:
    shape = tuple(draw(st.integers(1, 4)) for _ in range(4))
    strides = tuple(draw(st.sampled_from([0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 48])) for _ in range(4))
    return draw(st.integers(0, 60)), shape, strides, draw(st.sampled_from([1, 2, 4]))


@st.composite
def tile_pairs(draw: st.DrawFn) -> tuple[View, View]:
    """Two rectangular tiles of one [h, w, c] tensor, at odd or even positions."""
    sizes = tuple(draw(st.integers(1, 6)) for _ in range(3))
    itemsize = draw(st.sampled_from([1, 2]))
    h, w, c = sizes
    strides = (w * c * itemsize, c * itemsize, itemsize)

    def tile() -> View:
        begin = [draw(st.integers(0, n - 1)) for n in (h, w, c)]
        shape = tuple(draw(st.integers(1, n - b)) for n, b in zip(sizes, begin, strict=True))
        address = sum(b * s for b, s in zip(begin, strides, strict=True))
        return address, (1, *shape), (0, *strides), itemsize

    return tile(), tile()


@settings(max_examples=300, deadline=None)
@given(any_views(), any_views())
def test_no_overlap_is_missed(a: View, b: View) -> None:
    if byte_set(a) & byte_set(b):
        assert overlap(a, b)
        assert overlap(b, a)


@settings(max_examples=300, deadline=None)
@given(tile_pairs())
def test_disjoint_tiles_of_a_tensor_are_told_apart(pair: tuple[View, View]) -> None:
    a, b = pair
    assert overlap(a, b) == bool(byte_set(a) & byte_set(b))
    assert overlap(b, a) == overlap(a, b)
