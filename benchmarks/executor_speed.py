"""How fast the executor is: the full-size U-Net and decoder beside ONNX Runtime in FP32.

One evaluation of each component on the simulated NPU, unchecked and checked, and of its FP32 export
in ONNX Runtime, with the same number of threads, taking turns so that a busy machine slows all
three alike: compare ratios, of which the median over the rounds counts. A profile by opcode and by
op kind says where the time goes, with what the checks of memory add, and the rate of
multiply-accumulates. Each component is measured in a process of its own, for its peak memory.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edgefusion.benchmarks.compile_speed import run
from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.bundle.host import open_host
from edgefusion.runtime.accuracy import sqnr_db
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Array, Operands
from edgefusion.runtime.kernels.parallel import CORES
from edgefusion.runtime.program import Instruction, Program
from edgefusion.runtime.work import derive_work

REPEATS: Mapping[str, int] = {"unet": 9, "vae_decoder": 3}
"""Rounds after a first one that compiles or loads kernels; the decoder takes minutes."""
SCHEDULE = "mlt"
TIMESTEP = 999

Inputs = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Profile:
    """Wall seconds and multiply-accumulates of each instruction."""

    program: Program
    seconds: Array
    macs: Array

    @classmethod
    def of(cls, program: Program, executor: Executor, inputs: Inputs, repeats: int) -> Profile:
        """The least of some runs for each instruction; the checks around it are included."""
        seconds = np.full(len(program), np.inf)
        before = 0.0

        def observe(index: int, _instruction: Instruction, _operands: Operands) -> None:
            nonlocal before
            seconds[index] = min(seconds[index], time.perf_counter() - before)
            before = time.perf_counter()

        for _ in range(repeats):
            before = time.perf_counter()
            executor.run(inputs, observe=observe)
        work = derive_work(program).tensor
        macs = np.zeros(len(program), np.int64)
        macs[work.index] = work.macs
        return cls(program, seconds, macs)

    def rows(self, checked: Profile, key: Callable[[int], str]) -> list[dict[str, Any]]:
        """One row for each ``key`` of an instruction's index, the longest first."""
        groups: dict[str, list[int]] = defaultdict(list)
        for index in range(len(self.program)):
            groups[key(index)].append(index)
        found = [self._row(name, np.array(g), checked) for name, g in groups.items()]
        return sorted(found, key=lambda row: -row["seconds"])

    def _row(self, name: str, group: Array, checked: Profile) -> dict[str, Any]:
        seconds, macs = float(self.seconds[group].sum()), int(self.macs[group].sum())
        return {
            "name": name,
            "instructions": len(group),
            "seconds": seconds,
            "share_percent": 100 * seconds / float(self.seconds.sum()),
            "checks_s": float(checked.seconds[group].sum()) - seconds,
            "gmac": macs / 1e9,
            "gmac_per_s": macs / 1e9 / seconds if macs else None,
        }


def random_inputs(bundle: Bundle, component: str) -> dict[str, Array]:
    """Normal values in the graph's shapes, and the first deployed timestep."""
    rng = np.random.default_rng(0)
    inputs: dict[str, Array] = {}
    for port in bundle.graph_model(component).graph.input:
        shape = tuple(dim.dim_value for dim in port.type.tensor_type.shape.dim)
        if port.name == "timestep":
            inputs[port.name] = np.full(shape, TIMESTEP, np.int64)
        else:
            inputs[port.name] = rng.standard_normal(shape).astype(np.float32)
    return inputs


def peak_bytes() -> int:
    """Most resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reference(export: Path) -> ort.InferenceSession:
    """The FP32 export in ONNX Runtime, on as many threads as the executor's kernels."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = CORES
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(str(export), options, providers=["CPUExecutionProvider"])


def reference_peak_bytes(export: Path, inputs: Inputs) -> int:
    """Peak memory of one evaluation in ONNX Runtime; for a process of its own."""
    reference(export).run(None, dict(inputs))
    return peak_bytes()


def measure(path: Path, component: str, export: Path, repeats: int) -> dict[str, Any]:
    """Time and profile one component; for a process of its own."""
    bundle = Bundle.open(path, verify=False)
    inputs = random_inputs(bundle, component)
    program = bundle.program(component, verify=False)
    hosts = open_host(bundle, component).functions
    weights = bundle.weights(component)

    def executor(checked: bool) -> Executor:
        return Executor(program, bundle.machine, weights, hosts=hosts, checked=checked)

    begin = time.perf_counter()
    unchecked = executor(checked=False)
    load_s = time.perf_counter() - begin
    found = unchecked.run(inputs).outputs
    npu_peak_bytes = peak_bytes()
    checked, session = executor(checked=True), reference(export)
    exact = dict(
        zip((o.name for o in session.get_outputs()), session.run(None, inputs), strict=True)
    )
    same = all(np.array_equal(found[k], v) for k, v in checked.run(inputs).outputs.items())
    ways: Mapping[str, Callable[[], object]] = {
        "npu": lambda: unchecked.run(inputs),
        "npu_checked": lambda: checked.run(inputs),
        "onnxruntime_fp32": lambda: session.run(None, inputs),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = [
        npu / fp32 for npu, fp32 in zip(seconds["npu"], seconds["onnxruntime_fp32"], strict=True)
    ]
    profile = Profile.of(program, unchecked, inputs, repeats)
    with_checks = Profile.of(program, checked, inputs, repeats)
    gmac = int(profile.macs.sum()) / 1e9
    instructions = tuple(program.instructions())
    return {
        "component": component,
        "instructions": len(program),
        "threads": CORES,
        "gmac": gmac,
        "seconds": seconds,
        "median_s": medians,
        "npu_over_onnxruntime": statistics.median(ratios),
        "npu_over_onnxruntime_in_each_round": ratios,
        "checked_over_unchecked": medians["npu_checked"] / medians["npu"],
        "npu_gmac_per_s": gmac / medians["npu"],
        "onnxruntime_gmac_per_s": gmac / medians["onnxruntime_fp32"],
        "load_s": load_s,
        "npu_peak_bytes": npu_peak_bytes,
        "checked_equals_unchecked": same,
        "sqnr_with_weight_rounding_db": {
            name: sqnr_db(value, found[name].reshape(value.shape)) for name, value in exact.items()
        },
        "by_opcode": profile.rows(with_checks, lambda i: Opcode(instructions[i].opcode).name),
        "by_kind": profile.rows(with_checks, lambda i: program.ops[instructions[i].op].kind),
    }


def alone(task: Callable[..., Any], *arguments: object) -> Any:
    """The result of ``task`` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(task, *arguments).result()


def show(row: dict[str, Any]) -> None:
    """Print a component's figures and its profile."""
    times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in row["median_s"].items())
    ratios = row["npu_over_onnxruntime_in_each_round"]
    print(
        f"{row['component']}: {times}; {row['npu_over_onnxruntime']:.2f} x ONNX Runtime "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )
    for part in row["by_opcode"]:
        rate = "" if part["gmac_per_s"] is None else f"{part['gmac_per_s']:8.1f} GMAC/s"
        print(
            f"  {part['name']:14} {part['instructions']:6} {part['seconds']:8.3f} s "
            f"{part['share_percent']:5.1f} %, checks {part['checks_s']:+7.3f} s {rate}"
        )


def main(source: str = "bk-sdm-tiny") -> dict[str, Any]:
    """Compile ``source`` calibrated with one prompt, then measure its U-Net and decoder."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, work = folder / "measured.npub", folder / "work"
        options = ["--schedule", SCHEDULE, "--components", ",".join(REPEATS)]
        options += ["--calibration-prompts", "1", "--work-dir", str(work)]
        run(["compile", source, "-o", str(path), *options])
        for component, repeats in REPEATS.items():
            (export,) = work.glob(f"exports/*/{component}.onnx")
            row = alone(measure, path, component, export, repeats)
            inputs = random_inputs(Bundle.open(path, verify=False), component)
            row["onnxruntime_peak_bytes"] = alone(reference_peak_bytes, export, inputs)
            rows.append(row)
            show(row)
    return {"source": source, "schedule": SCHEDULE, "components": rows}


if __name__ == "__main__":
    main(*sys.argv[1:])
