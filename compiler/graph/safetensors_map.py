"""Maps a safetensors file, or one that lies inside another file, without reading its tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_NUMPY_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def mapped_tensors(path: Path, offset: int, nbytes: int) -> dict[str, Array]:
    """Read-only views by name of the tensors in ``nbytes`` bytes of ``path`` from ``offset`` on.

    Raises ValueError, KeyError or TypeError for what is no safetensors file, or has types that
    numpy lacks.
    """
    data = np.memmap(path, np.uint8, "r", offset=offset, shape=(nbytes,))
    begin = 8 + int(data[:8].view("<u8")[0])
    header: dict[str, Any] = json.loads(data[8:begin].tobytes())
    tensors: dict[str, Array] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            typed = np.asarray(data[begin + first : begin + last]).view(
                _NUMPY_TYPES[entry["dtype"]]
            )
            tensors[name] = typed.reshape(entry["shape"])
    return tensors
