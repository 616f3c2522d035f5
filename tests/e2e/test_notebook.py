"""The example notebook runs from top to bottom, and shows what it showed when it was written.

``EDGEFUSION_BLESS_NOTEBOOK=1`` stores what it shows now; the diff is the review.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient


@pytest.fixture(scope="module")
def stored(repository_root: Path) -> Path:
    return repository_root / "examples" / "notebook" / "explore_a_bundle.ipynb"


@pytest.fixture(scope="module")
def executed(stored: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook, run beside a bundle that it then need not compile."""
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copy(bundle, folder / "tiny.npub")
    notebook = nbformat.read(stored, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    made = client.execute()
    made.metadata = notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    if os.environ.get("EDGEFUSION_BLESS_NOTEBOOK") == "1":
        nbformat.write(made, stored)
    return made


def shown(notebook: Any) -> list[list[Any]]:
    """What each cell puts out."""
    return [[dict(output) for output in cell.get("outputs", [])] for cell in notebook.cells]


def test_it_shows_what_is_stored(executed: Any, stored: Path) -> None:
    kept = nbformat.read(stored, as_version=4)
    for cell, now, before in zip(executed.cells, shown(executed), shown(kept), strict=True):
        assert now == before, f"{cell.source}\nEDGEFUSION_BLESS_NOTEBOOK=1 stores what it shows now"


def test_nothing_goes_to_stderr(executed: Any) -> None:
    outputs = [output for cell in shown(executed) for output in cell]
    assert not [each for each in outputs if each.get("name") == "stderr"]
    assert sum("application/vnd.plotly.v1+json" in each.get("data", {}) for each in outputs) == 3


def test_it_is_no_trace_of_a_machine(stored: Path) -> None:
    text = stored.read_text(encoding="utf-8")
    assert len(text) < 200_000
    for trace in ("/tmp/", "/home/", "/root/", "iopub.execute_input"):
        assert trace not in text
