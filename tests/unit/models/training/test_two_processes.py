"""Two processes under accelerate do what one does with twice the batch."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed_run import distil

RTOL, ATOL = 1e-4, 1e-6
"""Sums in another order, over eight backward passes; a step moves weights by up to 1e-3."""


def test_two_processes_equal_one_at_double_batch(repository_root: Path, tmp_path: Path) -> None:
    """Wrapped for two processes, features are still caught, and gradients exchanged once a step."""
    one, two = tmp_path / "one", tmp_path / "two"
    distil(one, batch_size=4)
    # Not `accelerate launch --cpu`: without MPI it runs one process, whatever it is asked for.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.distributed_run", str(two), "2"]
    done = subprocess.run(
        command,
        cwd=repository_root,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("student", "average"):
        left, right = (
            load_file(folder / "checkpoints" / "step-00000004" / f"{name}.safetensors")
            for folder in (one, two)
        )
        for key, value in left.items():
            torch.testing.assert_close(value, right[key], rtol=RTOL, atol=ATOL)
    texts = [(folder / "log.csv").read_text().splitlines() for folder in (one, two)]
    logs = [list(csv.DictReader(lines)) for lines in texts]
    assert [len(rows) for rows in logs] == [4, 4]
    for left_row, right_row in zip(*logs, strict=True):
        for term in ("total", "task", "feature", "gradient_norm"):
            assert float(left_row[term]) == pytest.approx(float(right_row[term]), rel=1e-4), term
    state = torch.load(two / "checkpoints" / "step-00000004" / "state.pt", weights_only=True)
    assert state["processes"] == 2
