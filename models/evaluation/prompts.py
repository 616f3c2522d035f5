"""The captions that images are drawn for: MS-COCO's annotations, or any list."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgefusion.models.data.imagefolder import as_caption
from edgefusion.models.data.prompts import prompts_from_file
from edgefusion.runtime.errors import InputError


def evaluation_prompts(path: Path, count: int, *, column: str = "text", seed: int = 0) -> list[str]:
    """``count`` captions.

    Of COCO's captions_val2014.json, drawn with ``seed`` without replacement from all annotations,
    in the order of their ids; of a .csv, .jsonl or text file (one a line) the first ones. Raises
    InputError for files that are none of these, hold fewer, or hold empty captions.
    """
    if path.suffix == ".json":
        captions = _coco(path)
    elif path.suffix == ".csv":
        captions = _csv(path, column)
    else:
        captions = list(prompts_from_file(path, column).lines)
    if len(captions) < count:
        raise InputError(
            f"{path} holds {len(captions)} captions; expected at least {count}. Ask for fewer with "
            "--count."
        )
    if path.suffix == ".json":
        drawn = np.random.default_rng(seed).choice(len(captions), count, replace=False)
        return [captions[index] for index in sorted(drawn.tolist())]
    return captions[:count]


def _coco(path: Path) -> list[str]:
    try:
        found: Any = json.loads(path.read_bytes())
        rows = sorted((int(row["id"]), as_caption(row["caption"])) for row in found["annotations"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no file of COCO captions ({type(error).__name__}: {error}); expected "
            "annotations with id and caption, as captions_val2014.json has them."
        ) from error
    return _complete(path, [caption for _, caption in rows])


def _csv(path: Path, column: str) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}. Expected a CSV file.") from error
    if rows and column not in rows[0]:
        raise InputError(
            f"{path} has no column {column}; it has {', '.join(map(str, rows[0]))}. Name it with "
            "--caption-column."
        )
    return _complete(path, [as_caption(row[column]) for row in rows])


def _complete(path: Path, captions: list[str]) -> list[str]:
    if "" in captions:
        number = captions.index("") + 1
        raise InputError(f"{path}: caption {number} of {len(captions)} is empty; remove it.")
    return captions
