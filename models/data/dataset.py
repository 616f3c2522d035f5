"""Opens a dataset, whichever of the layouts it has."""

from __future__ import annotations

from pathlib import Path

from edgefusion.models.data.imagefolder import open_image_folder
from edgefusion.models.data.sample import Dataset
from edgefusion.models.data.shards import open_shards
from edgefusion.runtime.errors import InputError

CAPTION_COLUMN = "text"
"""What the column of captions is called, unless the user says otherwise."""


def open_dataset(path: Path, caption_column: str = CAPTION_COLUMN) -> Dataset:
    """The dataset at ``path``: a folder with metadata.jsonl, of images with .txt files, or of .tar
    shards, or one shard. Raises InputError for anything else."""
    if path.is_file() and path.suffix == ".tar":
        return open_shards([path], caption_column)
    if not path.is_dir():
        raise InputError(
            f"{path} is no dataset; expected a folder of images with metadata.jsonl, or of "
            "webdataset shards (.tar)."
        )
    if shards := list(path.glob("*.tar")):
        return open_shards(shards, caption_column)
    return open_image_folder(path, caption_column)
