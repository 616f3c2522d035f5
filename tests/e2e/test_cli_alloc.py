"""``edgefusion alloc``: placements of files, their forms, and what does not fit."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tests.e2e.conftest import Cli

CAPACITY = 1_048_576
DOES_NOT_FIT = 5


@pytest.fixture
def instance(repository_root: Path) -> Path:
    return repository_root / "tests" / "data" / "minimalloc" / f"D.{CAPACITY}.csv"


def test_a_placement_in_all_forms(cli: Cli, instance: Path, tmp_path: Path) -> None:
    outcome = cli("alloc", instance, "--capacity-bytes", CAPACITY, "--json", "-")
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert document["fits"] is True
    assert document["lower_bound_bytes"] <= document["height_bytes"] <= CAPACITY
    placed = cli("alloc", instance, "--capacity-bytes", CAPACITY, "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(placed.out)))
    assert {row["id"]: int(row["offset"]) for row in rows} == document["offsets"]
    again = tmp_path / "placed.csv"
    again.write_text(placed.out)  # a solution is a problem, too
    shown = cli("alloc", again, "--capacity-bytes", CAPACITY)
    assert shown.code == 0
    assert f"{document['height_bytes']:,} bytes; " in shown.out


def test_what_does_not_fit_is_placed_and_told(cli: Cli, instance: Path) -> None:
    outcome = cli("alloc", instance, "--capacity-bytes", 900_000, "--most-steps", 0, "--json", "-")
    assert outcome.code == DOES_NOT_FIT
    document = outcome.json
    assert document["fits"] is False
    assert document["height_bytes"] >= document["lower_bound_bytes"] > 900_000
    assert "live at once, so nothing less than that can do" in outcome.err
    close = cli("alloc", instance, "--capacity-bytes", 990_000, "--most-steps", 9)
    assert close.code == DOES_NOT_FIT
    assert "--most-steps lets the search go on" in close.err


def test_offsets_are_aligned(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_text("id,lower,upper,size\na,0,4,65\nb,1,3,10\nc,2,9,1\n")
    document = cli("alloc", path, "--align-bytes", 64, "--json", "-").json
    assert all(offset % 64 == 0 for offset in document["offsets"].values())
    assert document["height_bytes"] == document["lower_bound_bytes"] == 256
    assert document["capacity_bytes"] is document["fits"] is None


def test_a_file_of_another_kind_is_bad_input(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_text("name,bytes\na,1\n")
    outcome = cli("alloc", path)
    assert (outcome.code, outcome.out) == (3, "")
    assert "id,lower,upper,size" in outcome.err
