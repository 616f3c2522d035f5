"""Kinds of files, told by content."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace
from PIL import Image
from safetensors.numpy import save

from edgefusion.runtime.file_kinds import Kind, kind_of


def _zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"1234")
    return file.getvalue()


def _image(form: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, form)
    return file.getvalue()


def _arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, x=np.zeros(2))
    return file.getvalue()


def _onnx(producer: str) -> bytes:
    graph = onnx.helper.make_graph([], "g", [], [])
    model: onnx.ModelProto = onnx.helper.make_model(graph, producer_name=producer)
    return model.SerializeToString()


def _trace(packets: int) -> bytes:
    trace = Trace()
    for number in range(packets):
        trace.packet.add(trusted_packet_sequence_id=1).track_descriptor.uuid = number + 2**63
    content: bytes = trace.SerializeToString()
    return content


_BUNDLE = _zipped("manifest.json", "unet/graph.onnx", "latency.json")
_TARGET = Path(__file__).resolve().parents[3] / "runtime/targets/exynos2400.toml"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", Kind.EMPTY),
        (_BUNDLE, Kind.BUNDLE),
        (_BUNDLE[:-30], Kind.BUNDLE),  # one that was cut off
        (_arrays(), Kind.ARRAYS),
        (_zipped("a.txt"), Kind.ZIP),
        (_zipped("a.txt")[:-8], Kind.ZIP),
        (_image("png"), Kind.PNG),
        (_image("jpeg"), Kind.IMAGE),
        (_image("webp"), Kind.IMAGE),
        (_onnx(""), Kind.ONNX),
        (_onnx("pytorch"), Kind.ONNX),
        (save({"x": np.zeros(3)}), Kind.SAFETENSORS),
        (b"\x7fELF\2\1\1", Kind.LIBRARY),
        (_trace(1), Kind.TRACE),
        (_trace(100), Kind.TRACE),
        (_trace(2)[:-1] + b"\0" * 99, Kind.TRACE),  # by its first packet
        (_trace(1)[:-1], Kind.BINARY),
        (b"\n\x02\x58\x01x", Kind.TEXT),  # more than the packet, but no other packet
        (b"\n\x02\x07\x01", Kind.TEXT),  # field 0
        (b"\n# Title\n", Kind.MARKDOWN),
        (b'\n{"a": 1}\n', Kind.JSON),
        (b"\n\x22" + b"X1" * 17 + b"\n", Kind.TEXT),  # fields of a packet, but all characters
        (np.linspace(0, 1, 100).tobytes(), Kind.BINARY),
        (bytes(100), Kind.BINARY),
        (b'{"a": 1}\n', Kind.JSON),
        (b"[[1, 2], [3]]", Kind.JSON),
        (b'\xef\xbb\xbf{"a": 1}', Kind.JSON),
        (b'{"a": 1}\n{"a": 2}\n', Kind.TEXT),
        (b"{broken", Kind.TEXT),
        (b"12", Kind.TEXT),
        (b"[[rule]]\nmatch = 'a'\n", Kind.TOML),
        (_TARGET.read_bytes(), Kind.TOML),
        (b"# a comment alone\n", Kind.MARKDOWN),
        (b"# Title\n\nText, with a comma.\n", Kind.MARKDOWN),
        (b"#!/bin/sh\necho a,b\n", Kind.TEXT),
        (b"<!doctype html>\n<p>", Kind.HTML),
        (b"<?xml version='1.0'?>", Kind.XML),
        (b'a,b\n1,"x\ny"\n', Kind.CSV),
        (b"a boat\na house, red\n", Kind.TEXT),
        ("größer\n".encode(), Kind.TEXT),
        ("größer\n".encode("latin-1"), Kind.BINARY),
    ],
)
def test_kind(tmp_path: Path, content: bytes, kind: Kind) -> None:
    path = tmp_path / "a.npub"  # a name says nothing
    path.write_bytes(content)
    assert kind_of(path) is kind


def test_large_text_is_told_by_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgefusion.runtime.file_kinds._HEAD_BYTES", 64)
    monkeypatch.setattr("edgefusion.runtime.file_kinds._PARSED_BYTES", 128)
    path = tmp_path / "large"
    rows = [{"name": "größer", "number": number} for number in range(100)]
    for end in range(60, 70):  # the head may end within a letter
        path.write_text(json.dumps([{"x": "ü" * end}, *rows], ensure_ascii=False))
        assert kind_of(path) is Kind.JSON
    path.write_text("name,number\n" + "a,1\n" * 100)
    assert kind_of(path) is Kind.CSV
