"""The whole experiment: repetitions with their own seeds, the claims tested on all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgefusion.models.folder_index import INDEX
from edgefusion.models.miniature.claims import (
    DEPLOYED_STEPS,
    claims,
    score_rows,
    tested,
    tested_by_distance,
)
from edgefusion.models.miniature.evaluation import mean
from edgefusion.models.miniature.names import FP32
from edgefusion.models.miniature.presets import Preset
from edgefusion.models.miniature.repetition import Repetition
from edgefusion.models.miniature.store import Store
from edgefusion.models.miniature.tools import make_tools
from edgefusion.runtime.files import replacing_folder, write_whole
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.miniature.deployment import deploy

SCHEMA_VERSION = 2
_STEPS = "steps"
RESULTS, REPORT, PIPELINE = "results.json", "results.md", "pipeline"


def run_experiment(preset: Preset, seeds: int, folder: Path, say: Say) -> dict[str, Any]:
    """Do what is not yet done in ``folder``; its results, which also lie there.

    It ends with results.json, results.md and pipeline/, the best repetition's student. An
    interrupted run goes on from the last checkpoint of the training it was in.
    """
    store = Store(folder / _STEPS)
    tools = make_tools(store, preset, say)
    found, deployed = [], []
    for seed in range(seeds):
        repetition = Repetition(preset, store, tools, seed, say)
        judged = repetition.judgements()
        deployed.append(deploy(repetition))
        found.append({**judged, **deployed[-1].judgements})
    asked = claims(preset)
    document = {
        "schema_version": SCHEMA_VERSION,
        "preset": preset.name,
        "repetitions": seeds,
        "judge_accuracy": tools.accuracy,
        "claims": [row for claim in asked if (row := tested(claim, found))],
        "distance_claims": [row for claim in asked if (row := tested_by_distance(claim, found))],
        "scores": score_rows(found),
    }
    best = max(deployed, key=lambda one: mean(one.judgements[FP32][str(DEPLOYED_STEPS)].scores))
    with replacing_folder(folder / PIPELINE, INDEX) as partial:
        shutil.copytree(best.folder, partial, dirs_exist_ok=True)
    write_whole(folder / RESULTS, json.dumps(document, indent=1).encode() + b"\n")
    write_whole(folder / REPORT, markdown(document).encode())
    return document


def run_repetition(preset: Preset, seed: int, folder: Path, say: Say) -> list[dict[str, Any]]:
    """Do one repetition of ``run_experiment`` alone; its scores. Processes that do one each share
    the work: what stands beside the U-Nets comes out the same in all of them."""
    store = Store(folder / _STEPS)
    repetition = Repetition(preset, store, make_tools(store, preset, say), seed, say)
    judged = repetition.judgements()
    return score_rows([{**judged, **deploy(repetition).judgements}])


def markdown(document: Mapping[str, Any]) -> str:
    """The claims by score and by distance, and the scores, as three tables."""
    count = document["repetitions"]
    lines = [
        f"# Miniature, preset {document['preset']}, {count} repetition{'s' if count > 1 else ''}",
        "",
        "Score: the share of a caption's attributes that a classifier sees in the picture",
        f"(right in {document['judge_accuracy']:.1%} of true pictures). Distance: Fréchet's, of",
        "pictures to true ones of the same captions, in that classifier's features; less is",
        "better. Intervals: 95 %, paired bootstrap over repetitions and prompts.",
        "",
        *_claim_table("score", document["claims"]),
        *_claim_table("distance", document["distance_claims"]),
        "| network | steps | score | each repetition | distance | each repetition |",
        "|---|---|---|---|---|---|",
    ]
    for row in document["scores"]:
        scores = f"{row['mean']:.3f} | {_listed(row['repetitions'])}"
        apart = f"{row['distance']:.3f} | {_listed(row['distances'])}"
        lines.append(f"| {row['network']} | {row['steps']} | {scores} | {apart} |")
    return "\n".join(lines) + "\n"


def _claim_table(kind: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """With a blank line after it; nothing where a preset's networks leave no orderings to test."""
    if not rows:
        return []
    verdicts = [row["verdict"] for row in rows]
    lines = [
        f"By {kind}, {verdicts.count('held')} of {len(rows)} orderings held,",
        f"{verdicts.count('not shown')} could not be shown, {verdicts.count('failed')} failed.",
        "",
        "| ordering | paper | first | second | difference | interval | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        margin = "" if row["margin"] is None else f" (within {row['margin']})"
        lines.append(
            f"| {row['claim']}{margin} | {row['source']} | {row['first']}: "
            f"{row['first_score']:.3f} | {row['second']}: {row['second_score']:.3f} | "
            f"{row['difference']:+.3f} | {row['low']:+.3f} to {row['high']:+.3f} | "
            f"{row['verdict']} |"
        )
    return [*lines, ""]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
