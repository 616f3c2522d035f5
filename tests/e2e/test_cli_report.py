"""``edgefusion report`` as a user types it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgefusion.runtime.file_kinds import Kind, kind_of
from tests.e2e.conftest import Cli


def test_report_writes_the_numbers_of_simulate(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    page, text = tmp_path / "report.html", tmp_path / "report.md"
    arguments = ("-o", page, "--markdown", text, "--json", tmp_path / "report.json")
    outcome = cli("report", bundle, *arguments, "--no-what-if", "--top", 1, "--title", "Mine")
    assert outcome.code == 0, outcome.err
    assert kind_of(page) is Kind.HTML
    total = cli("simulate", bundle, "--json", "-").json["pipeline"]["total_ms"]
    (document,) = json.loads((tmp_path / "report.json").read_text())["bundles"]
    assert document["latency"]["pipeline"]["total_ms"] == total
    moved = cli("traffic", bundle, "--json", "-").json
    assert document["traffic"]["by_cause"] == moved["by_cause"]
    assert f'data-v="{total!r}"' in page.read_text()
    assert "<h1>Mine</h1>" in page.read_text()
    assert document["verdict"] in outcome.out
    assert text.read_text().startswith("# Mine\n")


def test_report_of_two_on_another_machine_as_markdown(cli: Cli, demo: Path) -> None:
    names = ("tiny-test-serial.npub", "tiny-test-mlt.npub")
    bundles = [demo / name for name in names]
    options = ("--markdown", "-", "--no-what-if", "--top", 1, "--set", "dma_bandwidth=2x")
    outcome = cli("report", *bundles, *options, "--steps", 1)
    assert outcome.code == 0, outcome.err
    assert re.findall(r"^\| `(.+?)` \|", outcome.out, re.M)[:2] == list(names)
    assert "dma\\_bandwidth\\_bytes\\_per\\_s = " in outcome.out
    assert ", 1 step," in outcome.out


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        ((), 2, "name what to write"),
        (("--markdown", "-", "--json", "-"), 2, "cannot both go to the standard output"),
        (("--markdown", "-", "--set", "dma_bandwith=1"), 2, "Did you mean dma_bandwidth"),
        (("--markdown", "-", "--images", "missing.png"), 3, "missing.png"),
        (("--markdown", "-", "--verification", "{verified}"), 3, "is the verification of other"),
        (("-o", "{bundle}"), 2, "tiny-test-mlt.npub"),
    ],
)
def test_bad_input_is_told_in_a_paragraph(
    cli: Cli, bundle: Path, tmp_path: Path, options: tuple[str, ...], code: int, told: str
) -> None:
    verified = tmp_path / "v.json"
    empty = {"schema_version": 3, "gates": {"summary": "", "passed": True}}
    verified.write_text(json.dumps({**empty, "bundle": "other.npub", "values": [], "layers": []}))
    given = [each.format(verified=verified, bundle=bundle) for each in options]
    before = bundle.stat().st_mtime_ns
    outcome = cli("report", bundle, *given)
    assert outcome.code == code, outcome.err
    last = outcome.err.strip().splitlines()[-1]
    assert last.startswith("edgefusion: error: ")
    assert told in last
    assert bundle.stat().st_mtime_ns == before
