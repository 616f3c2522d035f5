"""Remarks in bundles: what is read is what was written; bundles without any open."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.bundle.remarks import Remark, remarks_bytes, remarks_from_bytes
from edgefusion.runtime.errors import InputError, UsageError
from tests.bundle_changes import changed
from tests.unit.compiler.bundle.test_bundle import make

REMARKS = (
    Remark("fuse-silu", "matched", "node [a]", "blocks.0", "SiLU of [1, 4]", ("sigmoid", "mul")),
    Remark("fuse-epilogue", "missed", "b", "", "others read “it” too"),
)


def test_round_trip_one_remark_a_line() -> None:
    content = remarks_bytes(REMARKS)
    assert remarks_from_bytes(content) == REMARKS
    assert content == remarks_bytes(REMARKS)
    assert len(content.splitlines()) == len(REMARKS) + 2
    assert remarks_from_bytes(remarks_bytes(())) == ()


def test_bundles_with_and_without(tmp_path: Path) -> None:
    old = make(tmp_path)
    assert Bundle.open(old).remarks("model") == ()
    new = changed(old, tmp_path / "new.npub", {"model/remarks.json": remarks_bytes(REMARKS)})
    bundle = Bundle.open(new)
    assert bundle.remarks("model") == REMARKS
    assert tmp_path / "out" / "model" / "remarks.json" in bundle.extract(tmp_path / "out")
    with pytest.raises(UsageError, match="no component 'unet'"):
        bundle.remarks("unet")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "the remarks are damaged: Expecting property name"),
        (b"[" * 100_000, "the remarks are damaged: maximum recursion"),
        (b"\xff", "the remarks are damaged: "),
        (b"[]", "expected a table of keys and values"),
        (b'{"schema_version": 1}', "remarks is missing"),
        (
            b'{"schema_version": 1, "remarks": [{"pass": 1, "kind": "x"}]}',
            r"remarks\.0\.pass is 1, expected text; remarks\.0\.kind is 'x', expected 'matched' or",
        ),
    ],
)
def test_damage_is_told(tmp_path: Path, content: bytes, reason: str) -> None:
    damaged = changed(make(tmp_path), tmp_path / "bad.npub", {"model/remarks.json": content})
    with pytest.raises(InputError, match=rf"bad\.npub: .*{reason}"):
        Bundle.open(damaged).remarks("model")
