"""Run the benchmarks and keep their results: ``python -m edgefusion.benchmarks.run``.

Each result is written to ``benchmarks/results/<name>.json`` with the machine and the date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgefusion.benchmarks import (
    ablation,
    compile_speed,
    executor_speed,
    field,
    latent_sizes,
    miniature_pictures,
    plain_networks,
    search_quality,
    simulator_speed,
)
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.machine_info import machine_info
from edgefusion.toolchain.paper.tables import run_paper

RESULTS = Path(__file__).parent / "results"


def paper() -> dict[str, Any]:
    """The paper's tables on the calibrated machine."""
    result = run_paper(load_target("exynos2400").machine, progress=print)
    return result.to_json()


BENCHMARKS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "ablation": ablation.main,
    "compile_speed": compile_speed.main,
    "executor_speed": executor_speed.main,
    "field": field.main,
    "latent_sizes": latent_sizes.main,
    "miniature_pictures": miniature_pictures.main,
    "paper": paper,
    "plain_networks": plain_networks.main,
    "search_quality": search_quality.main,
    "simulator_speed": simulator_speed.main,
}


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    for name in names or list(BENCHMARKS):
        print(f"== {name}")
        result = {"benchmark": name, "machine": machine_info(), **BENCHMARKS[name]()}
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"{name}.json"
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"written {file}")


if __name__ == "__main__":
    main(sys.argv[1:])
