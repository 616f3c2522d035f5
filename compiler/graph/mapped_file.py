"""A file of weights in the address space, of which only a little is in memory at a time."""

from __future__ import annotations

import mmap
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RELEASE_BYTES = 256 << 20
"""After reading this much, the pages read so far are given back; who still looks reads again."""


class MappedFile:
    """One read-only mapping, shared by all weights of a graph that lie in the file."""

    def __init__(self, path: Path) -> None:
        """Map ``path``; OSError if it cannot be read."""
        self.path = path
        self.nbytes = path.stat().st_size
        self._read_bytes = 0
        self._map: mmap.mmap | bytes = b""
        if self.nbytes:  # an empty file cannot be mapped
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int) -> npt.NDArray[Any]:
        """A read-only view of little-endian elements at byte ``offset``."""
        count = prod(shape)
        if not count:
            return np.zeros(shape, dtype)
        if self._read_bytes > RELEASE_BYTES:
            self._release()
        self._read_bytes += count * dtype.itemsize
        return np.frombuffer(self._map, dtype.newbyteorder("<"), count, offset).reshape(shape)

    def _release(self) -> None:
        """Give the pages back to the file cache; views stay valid."""
        if isinstance(self._map, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        self._read_bytes = 0
