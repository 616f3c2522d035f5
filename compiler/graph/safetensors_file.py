"""Writes safetensors files one tensor at a time; reading is the safetensors library's job.

Format: https://huggingface.co/docs/safetensors (8 bytes header length, JSON header, data without
holes). The library's own writer wants all tensors in memory; a bundle's weights are computed one
after another. The header is padded with spaces, which the format allows, so that data begin at a
multiple of ``ALIGNMENT``; tensors whose size is a multiple of it come first and stay aligned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edgefusion.compiler.graph.weights import Values, stored_bytes

ALIGNMENT = 64
_TYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


def write_safetensors(path: Path, tensors: Mapping[str, Values]) -> dict[str, int]:
    """Write ``tensors``; returns the byte offset of each in the file. Same tensors, same bytes."""

    def place(name: str) -> tuple[bool, int, str]:
        values = tensors[name]
        return values.nbytes % ALIGNMENT != 0, -values.dtype.itemsize, name

    order = sorted(tensors, key=place)
    offsets, end = {}, 0
    for name in order:
        offsets[name] = end
        end += tensors[name].nbytes
    header = json.dumps(
        {
            name: {
                "dtype": _TYPES[tensors[name].dtype.name],
                "shape": list(tensors[name].shape),
                "data_offsets": [offsets[name], offsets[name] + tensors[name].nbytes],
            }
            for name in sorted(tensors)
        },
        separators=(",", ":"),
    ).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for name in order:
            file.write(stored_bytes(tensors[name].load()).data)
    return {name: 8 + len(header) + offset for name, offset in offsets.items()}
