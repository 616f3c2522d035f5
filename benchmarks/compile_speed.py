"""Compile time, memory and determinism of the three full-size components.

Runs the command line as a user would, twice, each in a process of its own, and reports: seconds of
export and of everything else; peak memory against the FP32 weights of the largest component;
whether the two bundles are equal byte for byte and simulate to equal numbers; seconds of simulating
the whole pipeline's program.
"""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.measurement import component_latency
from edgefusion.toolchain.compiling.compile_source import DEFAULT_CALIBRATION_PROMPTS

LARGEST_FP32_BYTES = 323_384_964 * 4
"""FP32 weights of the BK-SDM-Tiny U-Net."""


def run(arguments: Sequence[str]) -> tuple[dict[str, Any], float, int]:
    """Run ``edgefusion ... --json -``: the document, wall seconds, peak resident bytes."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "edgefusion", *arguments, "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return json.loads(text), time.perf_counter() - begin, usage.ru_maxrss * 1024


def simulation_seconds(path: Path) -> float:
    """Seconds to time all programs of a bundle once they are in memory, op latencies included."""
    bundle = Bundle.open(path, verify=False)
    programs = [bundle.program(name, verify=False) for name in bundle.components]
    for program in programs:  # compiles the loops, or reads them from the cache
        component_latency(program, bundle.machine)
    begin = time.perf_counter()
    for program in programs:
        component_latency(program, bundle.machine)
    return time.perf_counter() - begin


def measure(
    schedule: str, prompts: int, folder: Path, source: str = "bk-sdm-tiny"
) -> dict[str, Any]:
    """Compile ``source`` twice under ``schedule``, calibrated on so many prompts, and simulate both
    bundles."""
    # Under one name, which documents tell.
    bundles = [folder / str(i) / f"{schedule}.npub" for i in (1, 2)]
    for path in bundles:
        path.parent.mkdir(exist_ok=True)
    options = ["--schedule", schedule, "--calibration-prompts", str(prompts)]
    compiled = [run(["compile", source, "-o", str(path), *options]) for path in bundles]
    simulated = [run(["simulate", str(path)]) for path in bundles]
    document, wall_s, peak_bytes = compiled[0]
    stages = document["stages"]
    export_s = sum(stage["seconds"] for stage in stages if stage["stage"] == "export")
    rest_s = sum(stage["seconds"] for stage in stages if stage["stage"] != "export")
    return {
        "source": source,
        "schedule": schedule,
        "calibration_prompts": prompts,
        "wall_s": wall_s,
        "export_s": export_s,
        "compile_without_export_s": rest_s,
        "compile_over_export": rest_s / export_s,
        "peak_memory_bytes": peak_bytes,
        "peak_memory_over_largest_fp32_weights": peak_bytes / LARGEST_FP32_BYTES,
        "bundle_bytes": document["bundle_bytes"],
        "instructions": sum(c["instructions"] for c in document["components"]),
        "bundles_identical": filecmp.cmp(bundles[0], bundles[1], shallow=False),
        "simulations_identical": simulated[0][0] == simulated[1][0],
        "simulate_command_s": simulated[0][1],
        "simulate_programs_s": simulation_seconds(bundles[0]),
        "stages": stages,
    }


def main() -> dict[str, Any]:
    """Measure ``mlt`` and ``pipelined`` without calibration, which runs the network and hides what
    the compiler takes, and ``pipelined`` with as much as is usual."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for schedule, prompts in (
            ("mlt", 0),
            ("pipelined", 0),
            ("pipelined", DEFAULT_CALIBRATION_PROMPTS),
        ):
            found.append(measure(schedule, prompts, Path(folder)))
            print(json.dumps({k: v for k, v in found[-1].items() if k != "stages"}, indent=1))
    return {"compile": found}


if __name__ == "__main__":
    main()
