"""One image-caption pair as a dataset gives it: read when it is wanted, decoded by nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sample:
    """``key`` names the pair in its dataset; ``caption`` is empty where there is none.

    ``read`` gives the image file's bytes, ``suffix`` (".jpg") says what they should be; ``path`` is
    that file, None inside a shard.
    """

    key: str
    caption: str
    read: Callable[[], bytes]
    suffix: str
    path: Path | None = None


class Dataset(Protocol):
    """Pairs in an order that never changes. ``digest`` tells one dataset from another."""

    @property
    def digest(self) -> str:
        """sha256 as hex of what lists the pairs."""
        ...

    def __iter__(self) -> Iterator[Sample]:
        """The pairs; images are not read before they are wanted."""
        ...
