"""Offset allocation: small cases by hand, the minimalloc instances, and errors."""

from __future__ import annotations

import csv
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgefusion.compiler.memory.placement import Lifetime, Placement, place, verify_placement
from edgefusion.runtime.errors import DoesNotFitError, UsageError

CAPACITY = 1_048_576  # of every minimalloc instance


def minimalloc(root: Path, name: str) -> list[Lifetime]:
    """The instance's buffers; its ``upper`` is exclusive, ours inclusive."""
    path = root / "tests" / "data" / "minimalloc" / f"{name}.{CAPACITY}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Lifetime(row["id"], int(row["lower"]), int(row["upper"]) - 1, int(row["size"]))
            for row in csv.DictReader(file)
        ]


def random_lifetimes(count: int) -> list[Lifetime]:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2 * count, count)
    last = first + rng.integers(1, 200, count)
    size = rng.integers(1, 200_000, count)
    return [
        Lifetime(f"b{i}", *row)
        for i, row in enumerate(zip(first.tolist(), last.tolist(), size.tolist(), strict=True))
    ]


def test_nothing_needs_nothing() -> None:
    assert place([], align_bytes=64) == Placement({}, 0, 0)


def test_buffers_that_never_meet_share_an_offset() -> None:
    placement = place([Lifetime("a", 0, 4, 100), Lifetime("b", 5, 9, 70)], align_bytes=1)
    assert placement == Placement({"a": 0, "b": 0}, 100, 100)


def test_the_last_moment_counts_as_use() -> None:
    placement = place([Lifetime("a", 0, 5, 100), Lifetime("b", 5, 9, 70)], align_bytes=1)
    assert placement.height_bytes == 170


def test_sizes_are_rounded_up_to_the_alignment() -> None:
    placement = place([Lifetime("a", 0, 0, 65), Lifetime("b", 0, 0, 64)], align_bytes=64)
    assert sorted(placement.offsets.values()) in ([0, 64], [0, 128])
    assert (placement.height_bytes, placement.lower_bound_bytes) == (192, 192)


def test_empty_buffers_need_no_room() -> None:
    placement = place([Lifetime("a", 0, 9, 0), Lifetime("b", 0, 9, 10)], align_bytes=1)
    assert placement.height_bytes == 10


def test_a_gap_between_buffers_is_used() -> None:
    lifetimes = [
        Lifetime("base", 0, 9, 10), Lifetime("gap", 0, 4, 5), Lifetime("top", 0, 9, 10),
        Lifetime("fill", 5, 9, 5),
    ]  # fmt: skip
    assert place(lifetimes, align_bytes=1).height_bytes == 25


# Height over capacity: reached 1.108, 1.157, 1.223, 1.134; greedy alone 1.275, 1.248, 1.308, 1.231.
@pytest.mark.parametrize(
    ("name", "ratio", "greedy_ratio"),
    [("A", 1.13, 1.29), ("B", 1.18, 1.26), ("C", 1.24, 1.32), ("D", 1.15, 1.25)],
)
def test_minimalloc(repository_root: Path, name: str, ratio: float, greedy_ratio: float) -> None:
    lifetimes = minimalloc(repository_root, name)
    greedy = place(lifetimes, align_bytes=1, search_effort=0)
    searched = place(lifetimes, align_bytes=1)
    for placement, limit in ((greedy, greedy_ratio), (searched, ratio)):
        verify_placement(lifetimes, placement, align_bytes=1)
        assert placement.lower_bound_bytes <= placement.height_bytes <= limit * CAPACITY


def test_the_same_arguments_give_the_same_offsets() -> None:
    lifetimes = random_lifetimes(120)
    first, again = (place(lifetimes, align_bytes=64, search_effort=2_000_000) for _ in range(2))
    assert first == again


def test_the_search_stops_where_the_capacity_is_met(repository_root: Path) -> None:
    lifetimes = minimalloc(repository_root, "A")
    greedy = place(lifetimes, align_bytes=1, search_effort=0)
    fits = place(lifetimes, align_bytes=1, capacity_bytes=greedy.height_bytes)
    assert fits == greedy


def test_a_thousand_buffers_are_placed_greedily_within_a_second() -> None:
    lifetimes = random_lifetimes(1000)
    place(lifetimes[:10], align_bytes=64, search_effort=0)  # compiles the loops
    start = time.perf_counter()
    placement = place(lifetimes, align_bytes=64, search_effort=0)
    assert time.perf_counter() - start < 1.0
    verify_placement(lifetimes, placement, align_bytes=64)
    assert placement.height_bytes < 1.1 * placement.lower_bound_bytes


def test_too_much_at_once_names_the_peak_and_the_biggest() -> None:
    lifetimes = [Lifetime(f"b{size}", 3, 7, size) for size in range(10, 80, 10)]
    lifetimes.append(Lifetime("elsewhere", 0, 2, 200))
    with pytest.raises(DoesNotFitError) as error:
        place(lifetimes, align_bytes=1, capacity_bytes=250)
    text = str(error.value)
    assert "280 bytes needed, 250 available: 30 too many" in text
    assert "moment 3, with b70 (70), b60 (60), b50 (50), b40 (40), b30 (30) and 2 more" in text
    assert "elsewhere" not in text


def test_loss_between_buffers_is_told_from_too_much_at_once(repository_root: Path) -> None:
    lifetimes = minimalloc(repository_root, "A")
    with pytest.raises(DoesNotFitError, match=r"1048576 live at once, the rest lost between"):
        place(lifetimes, align_bytes=1, capacity_bytes=CAPACITY, search_effort=0)


@pytest.mark.parametrize(
    ("lifetimes", "message"),
    [
        ([Lifetime("a", 0, 1, 1), Lifetime("a", 2, 3, 1)], "repeated: a"),
        ([Lifetime("a", 2, 1, 1)], "last >= first"),
        ([Lifetime("a", 0, 1, -1)], "size >= 0"),
    ],
)
def test_wrong_lifetimes_are_refused(lifetimes: list[Lifetime], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        place(lifetimes, align_bytes=1)


def test_a_wrong_alignment_is_refused() -> None:
    with pytest.raises(UsageError, match="positive alignment, found 0"):
        place([], align_bytes=0)


GOOD = [Lifetime("a", 0, 5, 64), Lifetime("b", 5, 9, 100), Lifetime("c", 6, 9, 60)]
OFFSETS = {"a": 0, "b": 64, "c": 0}


def test_the_check_accepts_a_good_placement() -> None:
    verify_placement(GOOD, Placement(OFFSETS, 164, 160), align_bytes=64, capacity_bytes=164)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ({**OFFSETS, "b": 0}, "expected a and b apart, as both live at moment 5"),
        ({**OFFSETS, "b": 65}, "expected b at a multiple of 64"),
        ({**OFFSETS, "b": 128}, r"within \[0, 164\)"),
        ({**OFFSETS, "a": -64}, r"expected a at .* found \[-64, 0\)"),
        ({"a": 0, "b": 64}, r"an offset for every lifetime and no other: \['c'\]"),
    ],
)
def test_the_check_refuses_broken_placements(offsets: dict[str, int], message: str) -> None:
    placement = replace(Placement(OFFSETS, 164, 160), offsets=offsets)
    with pytest.raises(ValueError, match=message):
        verify_placement(GOOD, placement, align_bytes=64)


def test_the_check_knows_the_capacity() -> None:
    with pytest.raises(ValueError, match="at most 163 bytes, found 164"):
        verify_placement(GOOD, Placement(OFFSETS, 164, 160), align_bytes=64, capacity_bytes=163)
