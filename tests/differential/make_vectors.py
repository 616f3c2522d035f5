"""Writes tests/data/vectors/conv_litert.npz or conv_tosa.npz: what an oracle computes.

    python tests/differential/make_vectors.py litert    # with ai-edge-litert
    python tests/differential/make_vectors.py tosa      # with tosa-tools, an environment of its own

Needs numpy and the oracle, not this project: the TOSA multipliers are computed here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import litert_oracle  # noqa: E402
import tosa_oracle  # noqa: E402
from conv_cases import CASES, ConvCase, operands, real_multipliers  # noqa: E402

VECTORS = HERE.parent / "data" / "vectors"


def litert(case: ConvCase) -> Any:
    """LiteRT's result of ``case``."""
    x, w, bias, scales = operands(case)
    return litert_oracle.conv2d(x, w, bias, case.x_scale, scales, case.y_scale, 1)


def tosa(case: ConvCase) -> Any:
    """The TOSA reference model's result of ``case``, with multipliers after TFLite's rule."""
    x, w, bias, scales = operands(case)
    q, exponent = np.frexp(real_multipliers(case, scales))
    q31 = np.floor(q * 2.0**31 + 0.5).astype(np.int64)
    factors = np.minimum((q31 + (1 << 15)) >> 16, 0x7FFF)
    return tosa_oracle.conv2d_rescaled(x, w, bias, factors, 15 - exponent)


def main() -> None:
    """Make one file."""
    name = sys.argv[1]
    oracle = {"litert": litert, "tosa": tosa}[name]
    results = {}
    for case in CASES:
        try:
            results[case.name] = oracle(case)
        except RuntimeError as error:  # an oracle may refuse a case; the tests say which
            print(f"{case.name}: {error}")
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else VECTORS / f"conv_{name}.npz"
    np.savez_compressed(target, **results)
    print(f"{target}: {len(results)} cases")


if __name__ == "__main__":
    main()
