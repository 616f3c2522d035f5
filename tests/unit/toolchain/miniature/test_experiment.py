"""The committed results, and the document that shows them."""

from __future__ import annotations

import json
from pathlib import Path

from edgefusion.models.miniature.presets import PRESETS
from edgefusion.toolchain.miniature.experiment import markdown

ROOT = Path(__file__).parents[4]
RESULTS = json.loads((ROOT / "benchmarks/results/miniature.json").read_bytes())


def tables(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_the_document_shows_the_results() -> None:
    text = (ROOT / "docs/miniature.md").read_text()
    section = text.split("\n## Results\n")[1].split("\n## ")[0]
    shown = markdown(RESULTS)
    assert tables(section) == tables(shown)
    counts = [line for line in shown.splitlines() if line.startswith("By ") or "failed." in line]
    assert len(counts) == 4
    assert all(line in section for line in counts)


def test_the_results_are_of_the_whole_experiment() -> None:
    assert RESULTS["preset"] == "lean"
    assert RESULTS["repetitions"] >= 3
    assert all(len(row["repetitions"]) == RESULTS["repetitions"] for row in RESULTS["scores"])
    few = {row["network"] for row in RESULTS["scores"] if row["steps"] == 2}
    assert {"few/tiny", "few/L-orig", "few/edgefusion", "W8A16 on the NPU"} <= few
    assert not PRESETS["lean"].networks


def test_there_is_no_table_where_no_ordering_was_tested() -> None:
    shown = markdown({**RESULTS, "distance_claims": []})
    assert "By score" in shown
    assert "By distance" not in shown
