"""What kind of file lies somewhere, told by its content, never by its name."""

from __future__ import annotations

import csv
import json
import os
import tomllib
import zipfile
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import BinaryIO

_HEAD_BYTES = 1 << 16
_PARSED_BYTES = 1 << 26
"""Larger text is told by its beginning."""
_ROWS = 100
_BUNDLE_MEMBERS = {"manifest.json", "latency.json"}
_FIRST_OF_BUNDLE = b"manifest.json"
_ZIP_NAME_AT = 30
_ONNX_VERSIONS = range(1, 64)
_ONNX_FIELDS = {0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42}
"""Tags that follow ``ir_version`` in onnx.proto's ModelProto: producer to opset_import."""

_TRACE_PACKET = b"\x0a"
_LAST_TRACE_FIELD = 1000
_FIRST_OF_TEXT = 9
"""Bytes below this one are no characters of a text."""


class Kind(StrEnum):
    """A kind of file; the value is how messages call it."""

    EMPTY = "an empty file"
    BUNDLE = "a bundle"
    ARRAYS = "an .npz file of arrays"
    ZIP = "a zip archive"
    PNG = "a PNG image"
    IMAGE = "an image"
    ONNX = "an ONNX model"
    SAFETENSORS = "a safetensors file"
    LIBRARY = "a shared library or program"
    TRACE = "a Perfetto trace"
    BINARY = "binary data"
    JSON = "JSON"
    TOML = "TOML"
    HTML = "HTML"
    XML = "XML"
    CSV = "CSV"
    MARKDOWN = "Markdown"
    TEXT = "text"


def trace_kind(path: Path) -> Kind:
    """What a trace is written as where ``path`` is given: JSON if it ends so."""
    return Kind.JSON if path.suffix == ".json" else Kind.TRACE


_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", Kind.PNG),
    (b"\xff\xd8\xff", Kind.IMAGE),
    (b"GIF8", Kind.IMAGE),
    (b"\x7fELF", Kind.LIBRARY),
)


def kind_of(path: Path) -> Kind:
    """The kind of the regular file ``path``. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        nbytes = os.fstat(file.fileno()).st_size
        if not head:
            return Kind.EMPTY
        for magic, kind in _MAGIC:
            if head.startswith(magic):
                return kind
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return Kind.IMAGE
        if head.startswith(b"PK"):
            return _zip_kind(file, head[_ZIP_NAME_AT:].startswith(_FIRST_OF_BUNDLE))
        if _is_safetensors(head, nbytes):
            return Kind.SAFETENSORS
        if _is_onnx(head):
            return Kind.ONNX
        if _is_trace(head):
            return Kind.TRACE
        try:
            text = head.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            if error.start < len(head) - 3 or nbytes <= len(head):  # not one that is cut off
                return Kind.BINARY
            text = head[: error.start].decode("utf-8-sig")
        if "\0" in text:
            return Kind.BINARY
        if len(head) < nbytes <= _PARSED_BYTES:
            text += file.read().decode("utf-8", errors="replace")
        return _text_kind(text, whole=nbytes <= _PARSED_BYTES)


def _zip_kind(file: BinaryIO, begins_as_bundle: bool) -> Kind:
    """By the list of members; by the first where the list was cut off."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError):
        return Kind.BUNDLE if begins_as_bundle else Kind.ZIP
    if names >= _BUNDLE_MEMBERS:
        return Kind.BUNDLE
    return Kind.ARRAYS if names and all(n.endswith(".npy") for n in names) else Kind.ZIP


def _is_safetensors(head: bytes, nbytes: int) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= nbytes - 8


def _is_onnx(head: bytes) -> bool:
    """Whether protobuf's field 1 holds a version of ONNX, and a known field of a model follows."""
    return len(head) > 2 and head[0] == 8 and head[1] in _ONNX_VERSIONS and head[2] in _ONNX_FIELDS


def _is_trace(head: bytes) -> bool:
    """Whether it begins with a packet of a protobuf ``Trace``: field 1, whose content is whole
    fields of plausible numbers, and after it another packet or nothing. A text that begins with
    an empty line is told apart by its characters."""
    if head[:1] != _TRACE_PACKET:
        return False
    nbytes, at = _varint(head, 1)
    end = at + nbytes
    if not 0 < nbytes <= len(head) - at or head[end : end + 1] not in (b"", _TRACE_PACKET):
        return False
    if not any(byte < _FIRST_OF_TEXT for byte in head[at:end]):
        return False
    while at < end:
        tag, at = _varint(head, at)
        begin, at = at, _field_end(head, at, tag & 7)
        if not 0 < tag >> 3 <= _LAST_TRACE_FIELD or at <= begin:
            return False
    return at == end


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number at ``at``, and where it ends; past the end, 0."""
    value = 0
    for place, byte in enumerate(content[at : at + 10]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    return 0, at + 10


def _field_end(content: bytes, at: int, wire_type: int) -> int:
    """Where a protobuf field ends whose tag ends at ``at``; 0 for a type that there is not."""
    if wire_type == 0:
        return _varint(content, at)[1]
    if wire_type == 2:
        nbytes, begin = _varint(content, at)
        return begin + nbytes
    return at + {1: 8, 5: 4}[wire_type] if wire_type in (1, 5) else 0


def _text_kind(text: str, *, whole: bool) -> Kind:
    start = text.lstrip()
    if start.lower().startswith(("<!doctype html", "<html")):
        return Kind.HTML
    if start.startswith("<?xml"):
        return Kind.XML
    if start.startswith(("{", "[")) and _is_json(start, whole=whole):
        return Kind.JSON
    if whole and _is_toml(text):
        return Kind.TOML
    if start.startswith(("{", "[", "<", "#!")):
        return Kind.TEXT
    if start.startswith("# "):
        return Kind.MARKDOWN
    return Kind.CSV if _is_csv(text, whole=whole) else Kind.TEXT


def _is_json(text: str, *, whole: bool) -> bool:
    if not whole:
        return text[1:].lstrip().startswith(('"', "{", "["))
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_toml(text: str) -> bool:
    """Whether ``text`` holds a key; comments alone are any text's."""
    try:
        return bool(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError):
        return False


def _is_csv(text: str, *, whole: bool) -> bool:
    """Whether the first rows have the same number of columns, two or more."""
    lines = text.splitlines(keepends=True)
    rows = csv.reader(lines if whole else lines[:-1], strict=True)
    try:
        widths = {len(row) for row in islice(rows, _ROWS)}
    except csv.Error:
        return False
    return len(widths) == 1 and widths.pop() > 1
