"""CONV2D against the TOSA reference model, bit for bit, from committed vectors and live.

``tosa-tools`` cannot share an environment with onnx: for the live test, name the Python that has it
in EDGEFUSION_TOSA_PYTHON.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.differential.conv_cases import CASES, ConvCase
from tests.differential.conv_kernel import run_kernel

VECTORS = Path(__file__).parents[1] / "data" / "vectors" / "conv_tosa.npz"
PYTHON = os.environ.get("EDGEFUSION_TOSA_PYTHON", "")
COMMITTED = set(np.load(VECTORS).files) if VECTORS.exists() else set()


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name in COMMITTED], ids=lambda case: case.name
)
def test_committed_results(case: ConvCase) -> None:
    with np.load(VECTORS) as vectors:
        np.testing.assert_array_equal(run_kernel(case), vectors[case.name])


@pytest.mark.oracle
@pytest.mark.skipif(not PYTHON, reason="EDGEFUSION_TOSA_PYTHON names no Python with tosa-tools")
def test_live(tmp_path: Path) -> None:
    made = tmp_path / "live.npz"
    script = Path(__file__).with_name("make_vectors.py")
    subprocess.run([PYTHON, str(script), "tosa", str(made)], check=True, capture_output=True)
    with np.load(made) as live:
        assert set(live.files) == COMMITTED
        for case in CASES:
            if case.name in COMMITTED:
                np.testing.assert_array_equal(run_kernel(case), live[case.name])
