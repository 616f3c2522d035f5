"""Weights that memory or disk have no room for, refused or left out before they are read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from edgefusion.models import room_check
from edgefusion.models.export import export_component
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.room_check import check_memory, free_bytes
from edgefusion.models.source import resolve_source
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.progress import silent
from tests.model_folders import pixart_pipeline_folder


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for the system's file, without a limit beside it."""
    monkeypatch.setattr(room_check, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(room_check, "_LIMIT", tmp_path / "memory.max")
    return tmp_path / "meminfo"


def let_free(file: Path, count: int) -> None:
    file.write_text(f"MemTotal:  99999999 kB\nMemAvailable:  {count >> 10} kB\nHugePages_Free: 0\n")


def test_free_memory_is_the_systems() -> None:
    free = free_bytes()
    assert free is not None
    assert free == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_limit_counts(memory: Path) -> None:
    let_free(memory, 8 << 30)
    limit = memory.with_name("memory.max")
    limit.write_text("max\n")
    assert free_bytes() == 8 << 30
    limit.write_text(f"{1 << 30}\n")
    assert free_bytes() == 1 << 30


@pytest.mark.parametrize("text", [None, "", "MemTotal: 1 kB\n", "MemAvailable: many\n"])
def test_a_system_that_does_not_say_has_enough(text: str | None, memory: Path) -> None:
    if text is not None:
        memory.write_text(text)
    assert free_bytes() is None
    check_memory("it", 10**15)


def test_pickles_that_have_no_room_are_refused_or_left_out(memory: Path, tmp_path: Path) -> None:
    folder = pixart_pipeline_folder(tmp_path)
    source = resolve_source(str(folder))
    let_free(memory, 10**9)
    assert checked_source(source, None, silent).components == source.components
    part = source.part("text_encoder")
    place = folder / part.folder
    made: Any = part.kind.library_class().from_pretrained(place)
    torch.save(made.state_dict(), place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()
    wanted = r"text_encoder has pickled weights of 0\.0 GB, .* 1\.0 GB of memory are free"
    with pytest.raises(DoesNotFitError, match=wanted):
        checked_source(source, None, silent)
    said: list[str] = []
    left = checked_source(source, ("transformer",), said.append)
    assert left.components == ("transformer", "vae_decoder")
    assert any(
        line.startswith("warning: pipeline: text_encoder is not used to calibrate others")
        for line in said
    )
    let_free(memory, 3 * 10**9)
    assert checked_source(source, None, silent).components == source.components


def test_a_disk_without_room_is_told_before_tracing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=1 << 20)
    monkeypatch.setattr("edgefusion.models.room_check.shutil.disk_usage", lambda _: free)
    said: list[str] = []
    with pytest.raises(DoesNotFitError, match=r"unet of tiny-test has 0\.0 GB .*--work-dir"):
        export_component(resolve_source("tiny-test"), "unet", tmp_path, progress=said.append)
    assert said == ["unet: reading the network"]
    assert not list(tmp_path.iterdir())
