"""The mapping of a weight file: views, and giving memory back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest

from edgefusion.compiler.graph import mapped_file
from edgefusion.compiler.graph.mapped_file import MappedFile

F32 = np.dtype(np.float32)


def test_views_at_any_offset(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)
    (tmp_path / "w").write_bytes(b"x" + values.tobytes())
    file = MappedFile(tmp_path / "w")
    assert file.nbytes == 25
    view = file.array((2, 3), F32, 1)
    np.testing.assert_array_equal(view, values.reshape(2, 3))
    assert not view.flags.writeable


def test_an_empty_file_holds_empty_tensors(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"")
    assert MappedFile(tmp_path / "w").array((0, 4), F32, 0).shape == (0, 4)


def test_views_survive_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_file, "RELEASE_BYTES", 16)
    values = np.arange(8, dtype=np.float32)
    (tmp_path / "w").write_bytes(values.tobytes())
    file = MappedFile(tmp_path / "w")
    views = [file.array((8,), F32, 0) for _ in range(4)]
    for view in views:
        np.testing.assert_array_equal(view, values)


def test_reading_everything_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """512 MB read in pieces of 16 MB, never more than some of them in memory."""
    monkeypatch.setattr(mapped_file, "RELEASE_BYTES", 32 << 20)
    piece, pieces = 16 << 20, 32
    with (tmp_path / "w").open("wb") as out:
        out.truncate(piece * pieces)
    file = MappedFile(tmp_path / "w")
    before = psutil.Process().memory_info().rss
    for number in range(pieces):
        assert file.array((piece // 4,), F32, number * piece).sum() == 0
        assert psutil.Process().memory_info().rss - before < 150e6
