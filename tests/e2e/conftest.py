"""The command line as a user types it, and bundles of the demo that most tests look at."""

from __future__ import annotations

import json
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
def bundle(demo: Path) -> Path:
    """The demo's bundle of schedule ``mlt``."""
    return demo / "tiny-test-mlt.npub"


@pytest.fixture(scope="session")
def calibrated(demo: Path) -> Path:
    """The demo's bundle of ``tiny-test`` that was calibrated on eight prompts. Do not change
    it."""
    return demo / "tiny-test-verified.npub"
