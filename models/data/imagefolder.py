"""Datasets in the layout of Hugging Face's imagefolder, and the folders img2dataset writes.

``metadata.jsonl`` has an object a line with ``file_name``, relative to the folder, and a column of
captions. Without it, every image is a sample and ``NAME.txt`` beside ``NAME.jpg`` its caption.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefusion.models.data.images import SUFFIXES
from edgefusion.models.data.sample import Sample
from edgefusion.runtime.errors import InputError

METADATA = "metadata.jsonl"
FILE_NAME = "file_name"


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """The rows of a folder's ``metadata.jsonl``, in their order."""

    folder: Path
    rows: tuple[tuple[str, str], ...]
    digest: str

    def __iter__(self) -> Iterator[Sample]:
        """See ``Dataset``."""
        for name, caption in self.rows:
            path = self.folder / name
            yield Sample(name, caption, path.read_bytes, path.suffix.lower(), path)


def open_image_folder(folder: Path, caption_column: str) -> ImageFolder:
    """The dataset in ``folder``.

    Raises InputError for lines that are no objects with a ``file_name`` inside the folder, names
    that come twice, and a column that no line has.
    """
    listing = folder / METADATA
    if not listing.is_file():
        return _with_caption_files(folder)
    content = listing.read_bytes()
    captions: dict[str, str] = {}
    columns: set[str] = set()
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        row = json_row(line, f"{listing}, line {number}")
        name = row.get(FILE_NAME)
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(
                f"{listing}, line {number}: expected {FILE_NAME}, a path inside the folder, found "
                f"{name!r}."
            )
        if name in captions:
            raise InputError(f"{listing}, line {number}: {name} is listed twice; remove one.")
        columns |= row.keys()
        captions[name] = as_caption(row.get(caption_column))
    if captions and caption_column not in columns:
        raise InputError(
            f"{listing} has no column {caption_column}; it has {', '.join(sorted(columns))}. Name "
            "the column of captions with --caption-column."
        )
    return ImageFolder(folder, tuple(captions.items()), hashlib.sha256(content).hexdigest())


def json_row(line: bytes | str, where: str) -> dict[str, Any]:
    """An object from a line of JSON; InputError, naming ``where``, for anything else."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: no JSON ({error}); expected an object a line.") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: found a {type(row).__name__}; expected an object a line.")
    return row


def as_caption(value: Any) -> str:
    """A caption on one line; empty for anything that is no text."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def image_paths(folder: Path) -> list[Path]:
    """The images in and below ``folder``, by name."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)


def _with_caption_files(folder: Path) -> ImageFolder:
    paths = image_paths(folder)
    if not paths:
        raise InputError(
            f"{folder} holds no {METADATA}, no images and no .tar shards; expected a dataset."
        )
    rows = []
    for path in paths:
        beside = path.with_suffix(".txt")
        text = beside.read_text(encoding="utf-8", errors="replace") if beside.is_file() else ""
        rows.append((path.relative_to(folder).as_posix(), as_caption(text)))
    return ImageFolder(folder, tuple(rows), hashlib.sha256(json.dumps(rows).encode()).hexdigest())
