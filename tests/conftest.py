"""What every test shares: the place of the checkout, and a run without network or telemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# Set before any test imports a hub client: a test must never depend on the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# The first example of a test may compile kernels, which no deadline of a test can know. The gate
# tries the same examples every time; `--hypothesis-profile=default` draws others.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")


class _ByFile(LoadScopeScheduling):
    """A file's tests stay together among several workers, for they share its fixtures; so do all
    of e2e, which share one demo."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "e2e" if "/e2e/" in file else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:
    """pytest-xdist's own groups depend on what pytest no longer has."""
    return _ByFile(config, log)


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The root of the checkout, where pyproject.toml lies."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def tiny_exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all components of `tiny-test`, seed 0, as <component>.onnx. Do not change it.

    Exported once a session, in another process with another hash seed, so that the tests which
    export again would see an order taken from a set.
    """
    folder = tmp_path_factory.mktemp("tiny-exports")
    program = (
        "import pathlib, sys\n"
        "from edgefusion.models.export import export_component\n"
        "from edgefusion.models.source import resolve_source\n"
        "source = resolve_source('tiny-test')\n"
        "for component in source.components:\n"
        "    export_component(source, component, pathlib.Path(sys.argv[1]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env=os.environ | {"PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "", "the exporter's own prints must be silenced"
    return folder
