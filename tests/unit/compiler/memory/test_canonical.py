"""The complete search: against all orders of small cases, and minimalloc's instances."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from edgefusion.compiler.memory.canonical import fit_within
from edgefusion.compiler.memory.minimalloc_file import read_minimalloc
from edgefusion.compiler.memory.placement import Lifetime, best_placement, verify_placement
from edgefusion.compiler.memory.search import I64, fit_in_order, neighbours
from edgefusion.runtime.errors import InputError

CAPACITY = 1_048_576
STEPS = 3_000_000


def least_height(first: I64, last: I64, size: I64) -> int:
    """First fit in every order: one of them is a best placement, sorted by its offsets."""
    begin, near = neighbours(first, last)
    offset = np.empty_like(size)
    return min(
        int(fit_in_order(np.array(order), size, begin, near, False, 0, offset))
        for order in permutations(range(len(size)))
    )


@pytest.mark.parametrize("seed", range(40))
def test_it_finds_the_least_height_and_proves_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 8, 6)
    last, size = first + rng.integers(0, 5, 6), rng.integers(1, 9, 6)
    least = least_height(first, last, size)
    found = fit_within(first, last, size, least, STEPS)
    assert found is not None
    lifetimes = [Lifetime(str(i), *row) for i, row in enumerate(zip(first, last, size))]  # noqa: B905
    placement = best_placement(lifetimes, align_bytes=1, search_effort=0, complete_steps=STEPS)
    verify_placement(lifetimes, placement, align_bytes=1)
    assert (found + size).max() == placement.height_bytes == least
    assert fit_within(first, last, size, least - 1, STEPS) is None


def test_a_case_that_no_greedy_order_of_size_or_time_solves() -> None:
    """Where the searches before it miss the bound, the complete one reaches it."""
    rng = np.random.default_rng(3)
    solved = 0
    for _ in range(30):
        first = rng.integers(0, 12, 14)
        size = rng.integers(1, 30, 14)
        lifetimes = [
            Lifetime(str(i), int(a), int(a + n), int(z))
            for i, (a, n, z) in enumerate(zip(first, rng.integers(0, 6, 14), size, strict=True))
        ]
        before = best_placement(lifetimes, align_bytes=1, search_effort=0)
        after = best_placement(lifetimes, align_bytes=1, search_effort=0, complete_steps=STEPS)
        verify_placement(lifetimes, after, align_bytes=1)
        assert after.height_bytes <= before.height_bytes
        solved += after.height_bytes < before.height_bytes
    assert solved > 3


def test_few_steps_are_an_answer_too() -> None:
    first, last, size = (np.array(each) for each in ([0, 0, 1, 3], [4, 2, 5, 5], [3, 5, 2, 4]))
    assert fit_within(first, last, size, 100, 1) is None


def test_empty_buffers_lie_anywhere() -> None:
    lifetimes = [Lifetime("a", 0, 3, 0), Lifetime("b", 0, 1, 7), Lifetime("c", 1, 3, 5)]
    placement = best_placement(lifetimes, align_bytes=1, search_effort=0, complete_steps=9)
    assert placement.height_bytes == 12


@pytest.mark.parametrize(
    "name",
    [
        "B",
        "D",
        pytest.param("A", marks=pytest.mark.full),
        pytest.param("C", marks=pytest.mark.full),
    ],
)
def test_minimalloc_fits_its_capacity(repository_root: Path, name: str) -> None:
    file = repository_root / "tests" / "data" / "minimalloc" / f"{name}.{CAPACITY}.csv"
    lifetimes = read_minimalloc(file)
    placement = best_placement(
        lifetimes, align_bytes=1, goal_bytes=CAPACITY, search_effort=0, complete_steps=STEPS
    )
    verify_placement(lifetimes, placement, align_bytes=1, capacity_bytes=CAPACITY)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "header"),
        ("id,lower,upper\n", "header"),
        ("id,lower,upper,size,alignment\n", "header"),
        ("id,lower,upper,size\n0,1,2\n", "line 2: 3 values for 4"),
        ("id,lower,upper,size\n0,1,x,3\n", "line 2: upper is 'x'"),
        ("id,lower,upper,size\n0,1,2,1e9\n", "size is '1e9'"),
        (f"id,lower,upper,size\n0,1,2,{1 << 61}\n", "size is"),
        ("id,lower,upper,size\n0,2,2,3\n", "upper above lower"),
        ("id,lower,upper,size\n0,1,2,-3\n", "0 or more"),
        ("id,lower,upper,size\n0,1,2,3\n0,4,5,6\n", "twice"),
        ('id,lower,upper,size\n"0,1,2,3\n', "line"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "buffers.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=told):
        read_minimalloc(path)


def test_a_solution_is_read_as_its_problem(tmp_path: Path) -> None:
    path = tmp_path / "placed.csv"
    path.write_text("id,lower,upper,size,offset\n7,-2,4,64,128\n\n")
    assert read_minimalloc(path) == (Lifetime("7", -2, 3, 64),)
