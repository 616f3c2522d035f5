"""Networks that memory has no room for, refused or left out before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from edgefusion.models import memory_check
from edgefusion.models.memory_check import check_memory, free_bytes
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import Source, resolve_source
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.progress import silent
from tests.model_folders import pixart_pipeline_folder

T5_BYTES = 4 * 4_762_310_656


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for the system's file, without a limit beside it."""
    monkeypatch.setattr(memory_check, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory_check, "_LIMIT", tmp_path / "memory.max")
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


def test_a_preset_that_has_no_room_is_refused(memory: Path) -> None:
    source = resolve_source("pixart-alpha")
    let_free(memory, T5_BYTES + 10**9)
    wanted = (
        r"^text_encoder of pixart-alpha has 4,762,310,656 parameters, 19.0 GB .* 20.0 GB of memory"
    )
    with pytest.raises(DoesNotFitError, match=wanted):
        checked_source(source, None, silent)
    let_free(memory, T5_BYTES + 2 * 10**9)
    assert checked_source(source, None, silent).components == source.components


def test_what_is_not_wanted_is_left_out(memory: Path) -> None:
    let_free(memory, 8 * 10**9)
    said: list[str] = []
    source: Source = checked_source(resolve_source("pixart-alpha"), ("transformer",), said.append)
    assert source.components == ("transformer", "vae_decoder")
    (told,) = said
    assert told.startswith("warning: pixart-alpha: text_encoder is not used to calibrate others")


def test_a_folder_that_has_no_room_is_refused(memory: Path, tmp_path: Path) -> None:
    folder = pixart_pipeline_folder(tmp_path)
    let_free(memory, 10**9)
    with pytest.raises(DoesNotFitError, match=r"text_encoder has 3,\d\d\d parameters"):
        checked_source(resolve_source(str(folder)), None, silent)
