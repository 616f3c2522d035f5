"""Reference vectors: what a component's source computed, kept in the bundle that was made from it.

``<component>/reference.npz`` holds one set of inputs that calibration did not see and what the
source's own graph made of them in ONNX Runtime, so that a bundle can be verified where its source
is not at hand. Arrays are numbered, their names stored beside them; equal values give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.bundle.check import REFERENCE, reading
from edgefusion.runtime.errors import InputError

Array = npt.NDArray[Any]
_PARTS = ("inputs", "outputs")
_ADVICE = "Compile the model again."


@dataclass(frozen=True, slots=True)
class ReferenceVectors:
    """Arrays by name, in the types that the source declares."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    def to_bytes(self) -> bytes:
        """As a bundle stores it: an uncompressed ``.npz`` without dates and without objects."""
        arrays: dict[str, Array] = {}
        for part in _PARTS:
            values: Mapping[str, Array] = getattr(self, part)
            arrays[part] = np.array(list(values), dtype=np.str_)
            arrays |= {f"{part}_{index}": array for index, array in enumerate(values.values())}
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        return file.getvalue()


def vectors_from_bytes(content: bytes) -> ReferenceVectors:
    """The inverse of ``ReferenceVectors.to_bytes``. Raises InputError for what it did not write."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            parts = [
                {
                    str(name): stored[f"{part}_{index}"]
                    for index, name in enumerate(stored[part].tolist())
                }
                for part in _PARTS
            ]
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise InputError(f"{REFERENCE} is damaged: {error}. {_ADVICE}") from error
    return ReferenceVectors(*parts)


def reference_vectors(bundle: Bundle, component: str) -> ReferenceVectors | None:
    """The vectors of ``component``; None for a bundle without. Raises InputError for damage."""
    bundle.manifest.component(component)
    name = f"{component}/{REFERENCE}"
    if name not in bundle.manifest.members:
        return None
    with reading(bundle.path):
        return vectors_from_bytes(bundle.read(name))
