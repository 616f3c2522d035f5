"""What every test shares: the place of the checkout, and a run without network or telemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Set before any test imports a hub client: a test must never depend on the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# The first example of a test may compile kernels, which no deadline of a test can know.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Among several workers a file's tests stay together, for they share its fixtures; so do all of
    e2e, which share one demo. A wrapper, because pytest-xdist reads the groups in the same hook."""
    for item in items:
        group = "e2e" if "e2e" in item.path.parts else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))
    return (yield)


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
