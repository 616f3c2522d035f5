"""What enters from outside, mutated: read rightly, or refused with an error that users can act on.

Each subject runs in a process of its own, for a mutated model can crash the libraries that read it.
``EDGEFUSION_FUZZ_CASES=5000 pytest tests/property/test_fuzz.py`` tries more than the gate does, and
``python -m tests.fuzz SUBJECT SEED 1`` repeats one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.subjects import SUBJECTS

CASES = {
    "onnx_fields": 60,
    "onnx_bytes": 60,
    "bundle_bytes": 150,
    "bundle_members": 200,
    "bundle_manifest": 200,
    "program_columns": 150,
    "target_text": 60,
    "recipe_text": 200,
    "calibration_json": 150,
}
WANTED = os.environ.get("EDGEFUSION_FUZZ_CASES")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_mutated_inputs_are_right_or_refused(
    subject: str, repository_root: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "seed"
    count = int(WANTED) if WANTED else CASES[subject]
    made = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", subject, "0", str(count)],
        cwd=repository_root,
        env={**os.environ, "EDGEFUSION_FUZZ_SEED": str(mark), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, f"seed {mark.read_text()} ended the process: {made.stderr[-2000:]}"
    lines = [json.loads(line) for line in made.stdout.splitlines() if line.startswith("{")]
    *findings, summary = lines
    assert not findings, "\n".join(map(str, findings))
    assert summary["tried"] == count
    assert summary["refused"], "no mutation was refused: they change nothing"


def test_a_fault_is_found(repository_root: Path) -> None:
    """The harness itself: an error that no user can act on is a finding, with its seed."""
    program = (
        "import tests.fuzz.__main__ as fuzz\n"
        "def subject(seed, place):\n"
        "    if seed == 3: raise KeyError('x')\n"
        "fuzz.SUBJECTS = {'mine': subject}\n"
        "fuzz.main('mine', 0, 5)\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", program],
        cwd=repository_root,
        capture_output=True,
        text=True,
        check=True,
    )
    finding, summary = map(json.loads, made.stdout.splitlines())
    assert (finding["seed"], summary["tried"]) == (3, 5)
    assert finding["error"].startswith("KeyError")
