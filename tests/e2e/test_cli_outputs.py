"""What is there after a command was killed, or the disk was full."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Cli
from tests.network_cases import save

DOES_NOT_FIT = 5


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _killed(command: list[str | Path], temporary: Path, out: Path, after_s: float) -> None:
    """Run a command until it has begun to write, and ``after_s`` longer."""
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(
        [sys.executable, "-m", "edgefusion", *map(str, command)],
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None and not list(out.glob(".edgefusion-*")):
            time.sleep(0.01)
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)


def _survives(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, delays: list[float]
) -> None:
    source, temporary, out = save(tmp_path, "cnn"), tmp_path / "tmp", tmp_path / "out"
    temporary.mkdir()
    out.mkdir()
    bundle = out / "cnn.npub"
    command: list[str | Path] = ["compile", source, "-o", bundle, "--work-dir", tmp_path / "work"]
    for number, delay in enumerate(delays):
        before = bundle.read_bytes() if number else b""
        _killed(command, temporary, out, delay)
        after = bundle.read_bytes() if bundle.exists() else b""
        assert after == before or cli("simulate", bundle).code == 0
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        assert cli(*command).code == 0
        assert _names(out) == ["cnn.npub"]
        assert not [name for name in _names(temporary) if name.startswith(".edgefusion")]
        assert not [name for name in _names(tmp_path / "work") if name.startswith(".edgefusion")]


def test_a_killed_compilation(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _survives(tmp_path, cli, monkeypatch, [0.3])


@pytest.mark.full
def test_compilations_killed_at_any_moment(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays = [random.Random(7).uniform(0, 6) for _ in range(12)]
    _survives(tmp_path, cli, monkeypatch, delays)


def test_disk_that_fills_up_at_any_size_of_file(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, temporary, out = save(tmp_path, "cnn"), tmp_path / "tmp", tmp_path / "out"
    temporary.mkdir()
    out.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit, codes = 0, []
    while not codes or codes[-1]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        try:
            outcome = cli("compile", source, "-o", out / "cnn.npub", "--calibration-prompts", 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        codes.append(outcome.code)
        assert outcome.code in (0, DOES_NOT_FIT), outcome.err
        if outcome.code:
            assert outcome.err.splitlines()[-1].startswith("edgefusion: error: the disk is full")
            assert not _names(out)
        assert not [name for name in _names(temporary) if name.startswith(".edgefusion")]
        limit = max(1000, 4 * limit)
    assert len(codes) > 2
