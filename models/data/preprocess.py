"""L-orig to L-pp: drop what is small, unreadable, without caption, removed by hand or a duplicate,
and cut the best square out of the rest (EdgeFusion, section 2.2 and Table 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from edgefusion.models.data.captions import captions_cut
from edgefusion.models.data.crops import square_crops
from edgefusion.models.data.duplicates import first_alike, perceptual_hash
from edgefusion.models.data.images import FORMATS, decoded, encoded, file_name
from edgefusion.models.data.journal import Record
from edgefusion.models.data.plug_in_types import CropScorer
from edgefusion.models.data.reading import read_image
from edgefusion.models.data.sample import Dataset, Sample
from edgefusion.models.data.stage import Result, Stage
from edgefusion.models.plug_ins import listed
from edgefusion.models.tokenization import Tokenizer
from edgefusion.runtime.errors import InputError

_CHUNK = 64
MISSING_CAPTION, BY_HAND, DUPLICATE = "missing caption", "removed by hand", "duplicate"


@dataclass(frozen=True, slots=True)
class PreprocessSettings:
    """``least_pixels`` of the shorter side; ``duplicate_bits`` of 64 in which perceptual hashes of
    duplicates may differ; ``size_pixels`` that crops are scaled down to; ``form`` of image files.

    ``removed`` are the keys of samples that a person took out; ``scorer`` is a name for the record.
    """

    least_pixels: int = 300
    duplicate_bits: int = 4
    size_pixels: int = 512
    form: str = "png"
    scorer: str = ""
    removed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the report holds it."""
        return asdict(self)


def centre_scorer(crops: Sequence[Image.Image], caption: str) -> Sequence[float]:  # noqa: ARG001
    """Finds all crops equal, so that the centre wins."""
    return [0.0] * len(crops)


def removal_list(path: Path) -> tuple[str, ...]:
    """The keys in a text file, one a line. Raises InputError for a file that cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}. Expected keys, one a line.") from error
    return tuple(sorted({line.strip() for line in lines if line.strip()}))


def preprocess(
    stage: Stage,
    dataset: Dataset,
    settings: PreprocessSettings,
    scorer: CropScorer,
    *,
    tokenizer: Tokenizer | None = None,
) -> Result:
    """The stage's body. Raises InputError for a removal list that names unknown samples, and for a
    scorer that gives other than one finite number a crop."""
    # 1. Look at every image once
    measured = stage.mapped("measure", dataset, _measure, chunk=_CHUNK)
    if unknown := sorted(set(settings.removed) - {record["key"] for record in measured}):
        raise InputError(
            f"the removal list names {len(unknown)} samples that the dataset does not hold, first "
            f"{unknown[0]}. Expected keys such as {measured[0]['key'] if measured else 'none'}."
        )
    # 2. Decide
    decided = _decided(measured, settings)
    # 3. Cut the kept ones
    kept = {index for index, record in enumerate(decided) if "reason" not in record}

    def cut(_first: int, samples: Sequence[tuple[int, Sample]]) -> list[Record]:
        return [_cut(stage, settings, scorer, index, sample) for index, sample in samples]

    chosen = ((index, s) for index, s in enumerate(dataset) if index in kept)
    rows = stage.mapped("crop", chosen, cut, chunk=_CHUNK)
    return Result(
        rows,
        [record for record in decided if "reason" in record],
        captions_cut((row["text"] for row in rows), tokenizer),
        {"crops": _crop_counts(rows)},
    )


def _measure(_first: int, samples: Sequence[Sample]) -> list[Record]:
    return [_measured(sample) for sample in samples]


def _measured(sample: Sample) -> Record:
    image = read_image(sample)
    if isinstance(image, str):
        return {"key": sample.key, "reason": image}
    if not sample.caption:
        return {"key": sample.key, "reason": MISSING_CAPTION}
    return {
        "key": sample.key,
        "width_pixels": image.width,
        "height_pixels": image.height,
        "hash": perceptual_hash(image),
    }


def _decided(measured: Sequence[Record], settings: PreprocessSettings) -> list[Record]:
    """The records, with a reason where a sample is dropped. Only kept images have duplicates."""
    small = f"smaller than {settings.least_pixels} pixels"
    removed = frozenset(settings.removed)
    candidates = []
    decided = []
    for record in measured:
        reason = record.get("reason")
        if reason is None and record["key"] in removed:
            reason = BY_HAND
        if reason is None and _shorter(record) < settings.least_pixels:
            reason = small
        decided.append({**record, "reason": reason} if reason else dict(record))
        if reason is None:
            candidates.append(decided[-1])
    alike = first_alike([record["hash"] for record in candidates], settings.duplicate_bits)
    for record, other in zip(candidates, alike, strict=True):
        if other is not None:
            record |= {"reason": DUPLICATE, "of": candidates[other]["key"]}
    return decided


def _shorter(record: Record) -> int:
    return int(min(record["width_pixels"], record["height_pixels"]))


def _cut(
    stage: Stage, settings: PreprocessSettings, scorer: CropScorer, index: int, sample: Sample
) -> Record:
    crops = square_crops(decoded(sample.read()), settings.size_pixels)
    scores = [0.0]
    if len(crops) > 1:
        given = listed("crop scorer", scorer(list(crops.values()), sample.caption))
        scores = [_number(score) for score in given]
    if len(scores) != len(crops) or not all(map(math.isfinite, scores)):
        raise InputError(
            f"the crop scorer gave {scores} for {len(crops)} crops of {sample.key}; expected one "
            "finite number each."
        )
    best = max(range(len(scores)), key=scores.__getitem__)
    name = file_name(index, FORMATS[settings.form])
    stage.write(name, encoded(list(crops.values())[best], settings.form))
    return {
        "file_name": name,
        "text": sample.caption,
        "source_key": sample.key,
        "crop": list(crops)[best],
    }


def _crop_counts(rows: Sequence[Record]) -> dict[str, int]:
    names = [row["crop"] for row in rows]
    return {name: names.count(name) for name in sorted(set(names))}


def _number(score: object) -> float:
    """A score as a number, NaN for anything else."""
    try:
        return float(score)  # type: ignore[arg-type]  # asked of it
    except (TypeError, ValueError):
        return math.nan
