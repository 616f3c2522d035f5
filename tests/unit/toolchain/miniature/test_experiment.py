"""The report on an experiment; the committed results, and the document that shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefusion.models.miniature.claims import claims, score_rows
from edgefusion.models.miniature.evaluation import Judgement
from edgefusion.models.miniature.names import BASE, EDGEFUSION, FP32, NPU, UNTUNED
from edgefusion.models.miniature.presets import PRESETS
from edgefusion.models.miniature.repetition import Judgements
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


def test_the_report_names_every_claim() -> None:
    networks = {side for claim in claims(PRESETS["smoke"]) for side in (claim.first, claim.second)}
    judged: Judgements = {}
    for name, steps in networks:
        judged.setdefault(name, {})[str(steps)] = Judgement([0.4, 0.8], [2.5, 2.4, 2.6])
    assert {FP32, NPU, EDGEFUSION, UNTUNED, BASE} <= judged.keys()
    document = {
        "preset": "x",
        "repetitions": 2,
        "judge_accuracy": 1.0,
        "claims": [],
        "distance_claims": [],
        "scores": score_rows([judged, judged]),
    }
    assert document["scores"][0]["mean"] == pytest.approx(0.6)
    assert "| few/edgefusion | 2 | 0.600 | 0.600, 0.600 | 2.500 | 2.500, 2.500 |" in markdown(
        document
    )
