"""sweep, explore and targets --toml, as a user types them."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgefusion.runtime.target import load_target
from tests.e2e.conftest import Cli

SUITE = """
schema_version = 1
sampler = "grid"
objectives = ["latency_ms", "dram_bytes"]
[models.tiny]
bundle = "tiny.npub"
[parameters]
dma_bandwidth = { first = "10GB/s", last = "40GB/s", step = "10GB/s" }
steps = [1, 2]
"""


@pytest.fixture
def suite(bundle: Path, tmp_path: Path) -> Path:
    (tmp_path / "tiny.npub").symlink_to(bundle)
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    return path


def test_a_machine_is_edited_and_written_down(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "half.toml"
    edits = ("--set", "sram=3MiB", "--set", "dma_bandwidth=2x", "--name", "half")
    shown = cli("targets", "exynos2400", *edits, "--toml", path, "--json", "-")
    assert shown.code == 0, shown.err
    assert load_target(str(path)).machine.digest == shown.json["digest"]
    statuses = {row["parameter"]: row["status"] for row in shown.json["parameters"]}
    assert statuses["dma_bandwidth_bytes_per_s"] == "set"
    assert statuses["dma_setup_ns"] == "calibrated"
    piped = cli("targets", path, "--toml", "-")
    assert (piped.code, piped.out) == (0, path.read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--set", "sram=3MiB"), 2, "need a target"),
        (("exynos2400", "--set", "srm=3MiB"), 2, "Did you mean sram?"),
        (("exynos2400", "--set", "sram=-3"), 2, "found -3"),
        (("exynos2400", "--name", ""), 2, "name is empty"),
        (("exynos9", "--toml", "-"), 3, "unknown target"),
    ],
)
def test_targets_says_what_is_wrong(
    cli: Cli, arguments: tuple[str, ...], code: int, message: str
) -> None:
    outcome = cli("targets", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err


def test_a_base_is_not_written_over(cli: Cli, tmp_path: Path) -> None:
    base, over = tmp_path / "base.toml", tmp_path / "over.toml"
    assert cli("targets", "exynos2400", "--name", "mine", "--toml", base).code == 0
    over.write_text('schema_version = 1\nname = "over"\nbase = "base.toml"\n')
    before = base.read_text()
    outcome = cli("targets", over, "--toml", base)
    assert outcome.code == 2
    assert "is read" in outcome.err
    assert base.read_text() == before


def test_sweep_gives_table_csv_json_and_a_plot(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    outcome = cli(
        "sweep", bundle, "--set", "dma_bandwidth=10GB/s:30GB/s:10GB/s", "--steps", "1,2",
        "--plot", tmp_path / "s.html", "--json", tmp_path / "s.json", "--csv", "-",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    document = json.loads((tmp_path / "s.json").read_text())
    assert [row["latency_ms"] for row in rows] == [
        str(point["latency_ms"]) for point in document["points"]
    ]
    assert len(rows) == 6
    own = cli("simulate", bundle, "--json", "-").json
    assert document["own"]["latency_ms"] == own["pipeline"]["total_ms"]
    assert (tmp_path / "s.html").read_text().startswith("<!doctype html>")
    table = cli("sweep", bundle, "--set", "clock=2x", "--set", "sram=1KiB")
    assert table.code == 0
    assert "tilings fits the SRAM of 1024 bytes" in " ".join(table.out.split())


def test_sweep_says_what_is_wrong(cli: Cli, bundle: Path) -> None:
    for arguments, message in (
        (("--set", "clock=fast"), "expected a number"),
        (("--steps", "1,two"), "expected whole numbers"),
        (("--schedule", "fast"), "unknown schedule"),
    ):
        outcome = cli("sweep", bundle, *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.err


def finished(folder: Path) -> dict[int, str]:
    """Trials in a database by index, as text."""
    import sqlite3
    from contextlib import closing

    try:
        with closing(sqlite3.connect(folder / "study.db")) as database:
            query = "SELECT value_json FROM trial_user_attributes WHERE key = ?"
            points = [json.loads(row[0]) for row in database.execute(query, ("point",))]
    except sqlite3.OperationalError:  # not there yet
        return {}
    assert len({point["index"] for point in points}) == len(points), "a trial was done twice"
    return {point["index"]: json.dumps(point) for point in points}


def test_explore_goes_on_after_kill_9(cli: Cli, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "explored"
    command = [sys.executable, "-m", "edgefusion", "explore", str(suite), "-o", str(out)]
    with subprocess.Popen(
        [*command, "--workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        begin = time.monotonic()
        while len(finished(out)) < 2 and process.poll() is None and time.monotonic() < begin + 120:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    before = finished(out)
    assert before, "nothing was finished before it was killed"
    assert not (out / "explore.json").exists()

    outcome = cli("explore", suite, "-o", out, "--workers", "0", "--json", "-")
    assert outcome.code == 0, outcome.err
    after = finished(out)
    assert before.items() <= after.items()
    assert sorted(after) == list(range(8))
    document = outcome.json
    assert json.loads((out / "explore.json").read_text()) == document
    with (out / "trials.csv").open() as file:
        assert {row["index"]: row["latency_ms"] for row in csv.DictReader(file)} == {
            str(trial["index"]): str(trial["figures"]["latency_ms"]) for trial in document["trials"]
        }
    swept = cli(
        "sweep", tmp_path / "tiny.npub", "--set", "dma_bandwidth=10GB/s:40GB/s:10GB/s",
        "--steps", "1,2", "--json", "-",
    ).json  # fmt: skip
    assert [point["latency_ms"] for point in swept["points"]] == [
        trial["figures"]["latency_ms"] for trial in document["trials"]
    ]
    page = (out / "pareto.html").read_text()
    assert page.startswith("<!doctype html>")

    again = cli("explore", suite, "-o", out, "--workers", "0")
    assert again.code == 0
    assert "starting" not in again.err, "workers were started for nothing"


def test_explore_says_what_is_wrong(
    cli: Cli, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.write_text(SUITE.replace("tiny.npub", "absent.npub"))
    outcome = cli("explore", suite, "-o", tmp_path / "out")
    assert (outcome.code, outcome.out) == (3, "")
    assert "absent.npub" in outcome.err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    from edgefusion.cli import explore as command

    with pytest.raises(Exception, match=r"pip install 'edgefusion\[explore\]'"):
        command._require_extra()
