"""``edgefusion diff`` as a user types it, on the demo's bundles of two schedules."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgefusion.compiler.bundle.manifest import Manifest
from tests.bundle_changes import changed
from tests.e2e.conftest import Cli


@pytest.fixture(scope="session")
def serial(demo: Path) -> Path:
    return demo / "tiny-test-serial.npub"


def test_a_bundle_is_identical_to_itself(cli: Cli, bundle: Path) -> None:
    outcome = cli("diff", bundle, bundle)
    assert outcome.code == 0, outcome.err
    assert "identical: the same programs on the same machine" in outcome.out
    assert len(outcome.out.splitlines()) == 2


def test_two_schedules_differ_by_what_simulate_says(
    cli: Cli, serial: Path, bundle: Path, tmp_path: Path
) -> None:
    table, text = tmp_path / "ops.csv", tmp_path / "diff.md"
    outcome = cli("diff", serial, bundle, "--json", "-", "--csv", table, "--markdown", text)
    assert outcome.code == 0, outcome.err
    document = outcome.json
    before, after = (cli("simulate", each, "--json", "-").json for each in (serial, bundle))
    moved, bytes_before = document["pipeline"], cli("traffic", serial, "--json", "-").json
    assert moved["latency_before_ms"] == before["pipeline"]["total_ms"]
    assert moved["latency_after_ms"] == after["pipeline"]["total_ms"]
    assert moved["dram_before_bytes"] == bytes_before["total_bytes"]
    assert {
        cause: row["dram_before_bytes"] for cause, row in document["causes"].items()
    } == bytes_before["by_cause"]
    attributed = sum(row["latency_change_ps"] for row in document["attribution"])
    assert attributed == moved["latency_change_ps"] < 0
    assert {row["reason"] for row in document["attribution"]} == {"schedule"}
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == len(document["ops"]) > 0
    assert sum(int(row["attributed_ps"]) for row in rows) == moved["latency_change_ps"]
    assert "| comes from | ops | ms |" in text.read_text()


def test_the_terminal_shows_where_it_comes_from(cli: Cli, serial: Path, bundle: Path) -> None:
    shown = cli("diff", serial, bundle, "--top", "3").out
    assert "schedule: serial → mlt" in shown
    for heading in ("What it comes from", "Busy time by engine", "DRAM traffic by cause"):
        assert heading in shown
    assert "3 of " in shown
    assert "transformer_blocks.0.attn1" in shown


def test_markdown_has_the_standard_output_to_itself(cli: Cli, serial: Path, bundle: Path) -> None:
    shown = cli("diff", serial, bundle, "--markdown", "-").out
    assert shown.startswith("# tiny-test-mlt.npub against tiny-test-serial.npub\n")
    assert "What it comes from" not in shown
    assert cli("diff", serial, bundle, "--markdown", "-", "--json", "-").code == 2


def test_bundles_for_other_machines_need_force(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    def slower(manifest: Manifest) -> Manifest:
        return replace(manifest, target=manifest.target.with_values(name="slow", clock_hz=6e8))

    other = changed(bundle, tmp_path / "slow.npub", {}, slower)
    outcome = cli("diff", bundle, other, "--json", tmp_path / "d.json")
    assert outcome.code == 2
    assert "slow" in outcome.err
    assert "--force" in outcome.err
    assert not (tmp_path / "d.json").exists()
    assert cli("diff", bundle, other, "--force", "--json", tmp_path / "d.json").code == 0
    document = json.loads((tmp_path / "d.json").read_text())
    (share,) = document["attribution"]
    assert (share["reason"], share["what"]) == ("target", "clock_hz")
    assert share["latency_change_ps"] == document["pipeline"]["latency_change_ps"] > 0
