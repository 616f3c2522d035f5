"""Datasets in webdataset shards: tar files; members NAME.jpg, NAME.txt, NAME.json make a sample.

This is what img2dataset writes. Shards are read in the order of their names. Images are read when
they are wanted, from their places in the file, so that listing a dataset costs little.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from edgefusion.models.data.imagefolder import as_caption, json_row
from edgefusion.models.data.images import SUFFIXES
from edgefusion.models.data.sample import Sample
from edgefusion.runtime.errors import InputError

Place = tuple[int, int]
"""Offset of a member's content in the shard, and its size, both in bytes."""


@dataclass(frozen=True, slots=True)
class Shards:
    """Tar files, and the column of each sample's .json that is its caption (else its .txt)."""

    paths: tuple[Path, ...]
    caption_column: str
    digest: str

    def __iter__(self) -> Iterator[Sample]:
        """See ``Dataset``. Raises InputError for a damaged shard, after the samples before it."""
        for path in self.paths:
            for key, members in _groups(path):
                yield self._sample(path, f"{path.stem}/{key}", members)

    def _sample(self, path: Path, key: str, members: Mapping[str, Place]) -> Sample:
        caption = ""
        if "txt" in members:
            caption = as_caption(_read(path, members["txt"]).decode(errors="replace"))
        if "json" in members:
            row = json_row(_read(path, members["json"]), f"{path}, {key}")
            caption = as_caption(row.get(self.caption_column)) or caption
        suffix = next((suffix for suffix in SUFFIXES if suffix[1:] in members), "")
        image = members[suffix[1:]] if suffix else (0, 0)
        return Sample(key, caption, partial(_read, path, image), suffix)


def open_shards(paths: Sequence[Path], caption_column: str) -> Shards:
    """The dataset in these tar files; known apart by their names and sizes."""
    names = [(path.name, path.stat().st_size) for path in sorted(paths)]
    digest = hashlib.sha256(json.dumps([caption_column, names]).encode()).hexdigest()
    return Shards(tuple(sorted(paths)), caption_column, digest)


def _groups(path: Path) -> Iterator[tuple[str, dict[str, Place]]]:
    """Each sample's key, and its members by suffix: those that follow each other under one key."""
    try:
        with tarfile.open(path, "r:") as archive:
            for key, group in groupby(_members(archive), lambda member: member[0]):
                members: dict[str, Place] = {}
                for _, suffix, place in group:
                    if suffix in members:
                        raise InputError(f"{path} holds {key}.{suffix} twice; remove one.")
                    members[suffix] = place
                yield key, members
    except (tarfile.TarError, EOFError) as error:
        raise InputError(
            f"{path} is no whole shard: {error}. Expected a tar file of samples. Make or download "
            "it again, or take it out of the folder."
        ) from error


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, str, Place]]:
    """Key, suffix and place of each file whose name has a suffix."""
    from webdataset.tariterators import base_plus_ext

    for member in archive:
        key, suffix = base_plus_ext(member.name)
        if member.isfile() and key:
            yield key, suffix.lower(), (member.offset_data, member.size)


def _read(path: Path, place: Place) -> bytes:
    offset, size = place
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
