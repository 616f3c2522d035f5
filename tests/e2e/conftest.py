"""The command line as a user types it, and one demo that most tests look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgefusion.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON: there must be nothing else on it."""
        return json.loads(self.out)


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command in this process."""
    monkeypatch.delenv("EDGEFUSION_DEBUG", raising=False)

    def run(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``demo --source tiny-test``: bundles of two schedules, work/ with exports, and
    demo.json. Do not change it."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "edgefusion", "demo", "--source", "tiny-test"]
    result = subprocess.run(
        [*command, "-o", str(folder), "--json", str(folder / "demo.json")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONHASHSEED": "123"},
    )
    assert result.returncode == 0, result.stderr
    (folder / "stdout.txt").write_text(result.stdout)
    (folder / "stderr.txt").write_text(result.stderr)
    return folder


@pytest.fixture(scope="session")
def bundle(demo: Path) -> Path:
    """The demo's bundle of schedule ``mlt``."""
    return demo / "tiny-test-mlt.npub"


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of ``tiny-test`` that can be run. Do not change it."""
    from edgefusion.api import compile_source

    path = tmp_path_factory.mktemp("calibrated") / "tiny.npub"
    compile_source("tiny-test", output=path, schedules=("mlt",), calibration_prompts=8)
    return path
