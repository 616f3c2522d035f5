"""The datasets of the paper's Table 8, made by the same stages as real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from edgefusion.models.data.curate import curate
from edgefusion.models.data.dataset import open_dataset
from edgefusion.models.data.preprocess import PreprocessSettings, preprocess
from edgefusion.models.data.recaption import recaption
from edgefusion.models.data.report import Report
from edgefusion.models.data.stage import run_stage
from edgefusion.models.data.synthesize import SynthesisSettings, synthesize
from edgefusion.models.miniature.classifier import Labeller
from edgefusion.models.miniature.raw_data import Draughtsman, Faults, Prompts, write_raw
from edgefusion.models.miniature.shapes import SIDE_PX

RAW, CLEANED, RECAPTIONED, SYNTHETIC, CURATED = "L-orig", "L-pp", "L-pps", "synt", "synt-cur"

MIXTURES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        RAW: (RAW,),
        CLEANED: (CLEANED,),
        RECAPTIONED: (RECAPTIONED,),
        "L-pps & synt": (RECAPTIONED, SYNTHETIC),
        "L-pps & synt-cur": (RECAPTIONED, CURATED),
        SYNTHETIC: (SYNTHETIC,),
        CURATED: (CURATED,),
    }
)
"""The rows of the paper's Tables 2 and 3: what is trained on, as folders."""


def make_datasets(
    folder: Path, seed: int, raw_count: int, prompt_count: int, labeller: Labeller
) -> dict[str, Report]:
    """All five below ``folder``; the reports of the four that a stage made.

    Finished ones are left as they are, an interrupted one goes on.
    """
    if not (folder / RAW).is_dir():
        write_raw(folder / RAW, seed, raw_count)
    raw = open_dataset(folder / RAW)
    cleaning = PreprocessSettings(
        least_pixels=SIDE_PX, duplicate_bits=0, size_pixels=SIDE_PX, scorer="labeller"
    )
    reports = {
        CLEANED: run_stage(
            folder / CLEANED,
            CLEANED,
            RAW,
            raw.digest,
            cleaning.to_json() | {"faults": asdict(Faults())},
            lambda stage: preprocess(stage, raw, cleaning, labeller.scores),
        )
    }
    cleaned = open_dataset(folder / CLEANED)
    reports[RECAPTIONED] = run_stage(
        folder / RECAPTIONED,
        RECAPTIONED,
        CLEANED,
        cleaned.digest,
        {"captioner": "labeller"},
        lambda stage: recaption(stage, cleaned, labeller.captions, batch=64),
    )
    asked = SynthesisSettings(
        prompt_count, seed=seed, batch=64, prompts="captions", generator="draughtsman"
    )
    reports[SYNTHETIC] = run_stage(
        folder / SYNTHETIC,
        SYNTHETIC,
        "",
        "",
        asked.to_json(),
        lambda stage: synthesize(stage, asked, Prompts(seed), Draughtsman()),
    )
    synthetic = open_dataset(folder / SYNTHETIC)
    reports[CURATED] = run_stage(
        folder / CURATED,
        CURATED,
        SYNTHETIC,
        synthetic.digest,
        {"curator": "labeller"},
        lambda stage: curate(stage, synthetic, labeller.curate),
    )
    return reports
