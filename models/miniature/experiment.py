"""The whole experiment: repetitions with their own seeds, the claims tested on all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgefusion.models.miniature.claims import DEPLOYED_STEPS, FP32, claims, score_rows, tested
from edgefusion.models.miniature.deployment import DrawOnNpu, deploy
from edgefusion.models.miniature.evaluation import mean
from edgefusion.models.miniature.presets import Preset
from edgefusion.models.miniature.repetition import Repetition
from edgefusion.models.miniature.store import Store
from edgefusion.models.miniature.tools import make_tools
from edgefusion.models.whole_file import write_whole

SCHEMA_VERSION = 1
_STEPS = "steps"
Say = Callable[[str], None]
RESULTS, REPORT, PIPELINE = "results.json", "results.md", "pipeline"


def run_experiment(
    preset: Preset, seeds: int, folder: Path, draw: DrawOnNpu, say: Say
) -> dict[str, Any]:
    """Do what is not yet done in ``folder``; its results, which also lie there.

    It ends with results.json, results.md and pipeline/, the best repetition's student. An
    interrupted run goes on from the last checkpoint of the training it was in.
    """
    store = Store(folder / _STEPS)
    tools = make_tools(store, preset, say)
    found, deployed = [], []
    for seed in range(seeds):
        repetition = Repetition(preset, store, tools, seed, say)
        scores = repetition.scores()
        deployed.append(deploy(repetition, draw))
        found.append({**scores, **deployed[-1].scores})
    rows = [row for claim in claims(preset) if (row := tested(claim, found))]
    document = {
        "schema_version": SCHEMA_VERSION,
        "preset": preset.name,
        "repetitions": seeds,
        "judge_accuracy": tools.accuracy,
        "claims": rows,
        "scores": score_rows(found),
    }
    best = max(deployed, key=lambda one: mean(one.scores[FP32][str(DEPLOYED_STEPS)]))
    shutil.copytree(best.folder, folder / PIPELINE, dirs_exist_ok=True)
    write_whole(folder / RESULTS, json.dumps(document, indent=1).encode() + b"\n")
    write_whole(folder / REPORT, markdown(document).encode())
    return document


def run_repetition(
    preset: Preset, seed: int, folder: Path, draw: DrawOnNpu, say: Say
) -> list[dict[str, Any]]:
    """Do one repetition of ``run_experiment`` alone; its scores. Processes that do one each share
    the work: what stands beside the U-Nets comes out the same in all of them."""
    store = Store(folder / _STEPS)
    repetition = Repetition(preset, store, make_tools(store, preset, say), seed, say)
    scores = repetition.scores()
    return score_rows([{**scores, **deploy(repetition, draw).scores}])


def markdown(document: Mapping[str, Any]) -> str:
    """The claims and the scores as two tables."""
    count = document["repetitions"]
    verdicts = [row["verdict"] for row in document["claims"]]
    lines = [
        f"# Miniature, preset {document['preset']}, {count} repetition{'s' if count > 1 else ''}",
        "",
        f"{verdicts.count('held')} of {len(verdicts)} orderings held,",
        f"{verdicts.count('not shown')} could not be shown, {verdicts.count('failed')} failed.",
        "A score is the share of a caption's attributes that a classifier sees in the picture",
        f"(right in {document['judge_accuracy']:.1%} of true pictures).",
        "Intervals: 95 %, paired bootstrap over repetitions and prompts.",
        "",
        "| ordering | paper | first | second | difference | interval | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in document["claims"]:
        margin = "" if row["margin"] is None else f" (within {row['margin']})"
        lines.append(
            f"| {row['claim']}{margin} | {row['source']} | {row['first']}: "
            f"{row['first_score']:.3f} | {row['second']}: {row['second_score']:.3f} | "
            f"{row['difference']:+.3f} | {row['low']:+.3f} to {row['high']:+.3f} | "
            f"{row['verdict']} |"
        )
    lines += ["", "| network | steps | score | each repetition |", "|---|---|---|---|"]
    for row in document["scores"]:
        each = _listed(row["repetitions"])
        lines.append(f"| {row['network']} | {row['steps']} | {row['mean']:.3f} | {each} |")
    return "\n".join(lines) + "\n"


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
