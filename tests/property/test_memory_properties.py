"""For any lifetimes: live buffers never overlap, offsets are aligned, no height beats the bound."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.compiler.memory.placement import Lifetime, place, verify_placement


@st.composite
def problems(draw: st.DrawFn) -> list[Lifetime]:
    rows = draw(
        st.lists(
            st.tuples(st.integers(-5, 20), st.integers(0, 10), st.integers(0, 300)), max_size=25
        )
    )
    return [Lifetime(f"b{i}", first, first + d, n) for i, (first, d, n) in enumerate(rows)]


@settings(max_examples=300, deadline=None)
@given(problems(), st.sampled_from([1, 3, 16, 64]), st.integers(0, 3))
def test_placements_are_valid(lifetimes: list[Lifetime], align_bytes: int, seed: int) -> None:
    placement = place(lifetimes, align_bytes=align_bytes, search_effort=20_000, seed=seed)
    occupied: dict[tuple[int, int], str] = {}
    for b in lifetimes:
        offset = placement.offsets[b.name]
        assert offset % align_bytes == 0
        for moment in range(b.first, b.last + 1):
            for byte in range(offset, offset + b.nbytes):
                assert occupied.setdefault((moment, byte), b.name) == b.name
    assert all(0 <= byte < placement.height_bytes for _, byte in occupied)
    peak = max(
        (sum(b.nbytes for b in lifetimes if b.first <= t <= b.last) for t in range(-5, 31)),
        default=0,
    )
    assert peak <= placement.lower_bound_bytes <= placement.height_bytes
    verify_placement(lifetimes, placement, align_bytes=align_bytes)


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(0, 3))
def test_more_search_is_never_worse(lifetimes: list[Lifetime], seed: int) -> None:
    greedy = place(lifetimes, align_bytes=1, search_effort=0)
    searched = place(lifetimes, align_bytes=1, search_effort=20_000, seed=seed)
    assert searched.height_bytes <= greedy.height_bytes
