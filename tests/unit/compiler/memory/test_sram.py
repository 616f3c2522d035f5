"""Where buffers lie: never two in one place at one moment, and within SRAM or not at all."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from edgefusion.compiler.memory.placement import Lifetime
from edgefusion.compiler.memory.sram import Crowded, SramLayout, lay_out

ALIGN = 16


@given(st.data(), st.integers(1, 6), st.integers(10, 60))
def test_what_is_there_at_one_moment_is_apart(
    data: st.DataObject, groups: int, sram_units: int
) -> None:
    sizes = st.integers(1, 25 * ALIGN)
    residents = []
    for i in range(data.draw(st.integers(0, 4))):
        first = data.draw(st.integers(0, groups - 1))
        last = data.draw(st.integers(first, groups - 1))
        residents.append(Lifetime(f"r{i}", first, last, data.draw(sizes)))
    requests = [
        {f"b{i}": size for i, size in enumerate(data.draw(st.lists(sizes, max_size=5)))}
        for _ in range(groups)
    ]
    # Requests come in whole slots, as emitters ask for them.
    requests = [{k: -(-n // ALIGN) * ALIGN for k, n in r.items()} for r in requests]
    sram_bytes = sram_units * ALIGN
    moments = st.tuples(st.integers(0, 9), st.integers(0, 9))
    uses = data.draw(st.none() | st.dictionaries(st.sampled_from(["b0", "b1", "r0"]), moments))
    found = lay_out(residents, requests, sram_bytes, ALIGN, uses)
    if isinstance(found, Crowded):
        held = sum(-(-r.nbytes // ALIGN) * ALIGN for r in residents)
        assert held + max(sum(r.values()) for r in requests) > sram_bytes
        assert 0 <= found.group < groups
        return
    assert found.peak_bytes <= sram_bytes
    assert set(found.residents) == {r.name for r in residents}
    for index, wanted in enumerate(requests):
        spans = [(found.buffers[index][label], nbytes) for label, nbytes in wanted.items()]
        spans += [
            (found.residents[r.name], r.nbytes)
            for r in residents
            if index in range(r.first, r.last + 1)
        ]
        for address, nbytes in spans:
            assert address % ALIGN == 0
            assert address >= 0
            assert address + nbytes <= found.peak_bytes
        for (a, size_a), (b, size_b) in combinations(spans, 2):
            assert a + size_a <= b or b + size_b <= a


def test_the_first_group_that_is_too_large_is_named() -> None:
    resident = Lifetime("r", 1, 2, 64)
    requests = [{"a": 128}, {"a": 64}, {"a": 80}]
    assert lay_out([resident], requests, 128, ALIGN) == Crowded(2)
    assert isinstance(lay_out([resident], requests[:2], 128, ALIGN), SramLayout)
    assert lay_out([], [{"a": 160}], 128, ALIGN) == Crowded(0)


def test_residents_alone_may_be_too_large() -> None:
    residents = [Lifetime("r", 0, 1, 96), Lifetime("s", 1, 1, 64)]
    assert lay_out(residents, [{}, {}], 128, ALIGN) == Crowded(1)


def test_a_group_begins_in_the_bytes_that_have_been_idle_longest() -> None:
    found = lay_out([], [{"a": 64}, {"b": 32}, {"c": 32}], 128, ALIGN)
    assert isinstance(found, SramLayout)
    (a,), (b,), (c,) = (layout.values() for layout in found.buffers)
    assert a in (0, 64)
    assert b not in range(a, a + 64)
    assert c not in (*range(a, a + 64), *range(b, b + 32))


def test_room_is_found_where_age_alone_would_not_find_it() -> None:
    """The middle of SRAM has been idle longest, but the last buffer needs it in one piece."""
    requests = [{"a": 32, "b": 32}, {"c": 64, "d": 64}]
    assert isinstance(lay_out([], requests, 128, ALIGN), SramLayout)


def test_who_is_needed_first_takes_what_is_free_first() -> None:
    requests = [{"short": 64, "long": 64}, {"later": 64, "soon": 32}]
    uses = {"short": (0, 10), "long": (0, 100), "later": (90, 200), "soon": (20, 200)}
    found = lay_out([], requests, 128, ALIGN, uses)
    assert isinstance(found, SramLayout)
    before, after = found.buffers
    assert after["soon"] in range(before["short"], before["short"] + 64)
