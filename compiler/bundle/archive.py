"""The zip container of a bundle: stored members whose data begin at multiples of 64 bytes.

Nothing is compressed, timestamps are fixed, and a padding field in each member's header moves its
data to an aligned offset, so that weights can be memory-mapped where they lie and the same members
always give the same bytes. Format: PKWARE APPNOTE 6.3, sections 4.3.7 and 4.5.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgefusion.compiler.bundle.manifest import MemberInfo
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.files import disk_errors

ALIGNMENT = 64
CHUNK_BYTES = 1 << 22
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LOCAL_HEADER_BYTES = 30
_ZIP64_FIELD_BYTES = 20
_FIELD_HEADER = struct.Struct("<HH")
_PADDING_ID = 0xD935  # the id that Android's zipalign uses for the same purpose
_ZIP64_FROM_BYTES = 1 << 31

Content = Path | bytes
"""What a member is made from: a file, which is streamed, or bytes."""


def member_info(content: Content) -> MemberInfo:
    """Size and sha256 of a member to be."""
    digest, nbytes = hashlib.sha256(), 0
    with _opened(content) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            nbytes += len(chunk)
    return MemberInfo(nbytes, digest.hexdigest())


def write_members(path: Path, members: Mapping[str, Content]) -> None:
    """Write a zip of ``members`` in their order.

    Raises DoesNotFitError for a full disk, InputError for a place that cannot be written; ``path``
    is then left as it is.
    """
    with (
        disk_errors(path),
        path.open("wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name, content in members.items():
            nbytes = len(content) if isinstance(content, bytes) else content.stat().st_size
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, whichever system writes
            entry.external_attr = 0o644 << 16
            entry.file_size = nbytes
            zip64 = nbytes >= _ZIP64_FROM_BYTES
            entry.extra = _padding(file.tell(), name, zip64)
            with (
                _opened(content) as stream,
                archive.open(entry, "w", force_zip64=zip64) as sink,
            ):
                while chunk := stream.read(CHUNK_BYTES):
                    sink.write(chunk)


def data_offset(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where the data of a stored member begin in the file. Raises InputError for a bad header."""
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_HEADER_BYTES)
    if len(header) < _LOCAL_HEADER_BYTES or header[:4] != b"PK\x03\x04":
        raise InputError(f"member {entry.filename} has no header where the zip's index says.")
    name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
    return entry.header_offset + _LOCAL_HEADER_BYTES + int(name_bytes) + int(extra_bytes)


def _padding(at: int, name: str, zip64: bool) -> bytes:
    fixed = _LOCAL_HEADER_BYTES + len(name.encode()) + _FIELD_HEADER.size
    fixed += _ZIP64_FIELD_BYTES if zip64 else 0
    size = -(at + fixed) % ALIGNMENT
    return _FIELD_HEADER.pack(_PADDING_ID, size) + bytes(size)


@contextmanager
def _opened(content: Content) -> Iterator[BinaryIO]:
    if isinstance(content, bytes):
        yield io.BytesIO(content)
    else:
        with content.open("rb") as stream:
            yield stream
