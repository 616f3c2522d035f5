"""Causes of a layer's error: each planted alone is the one that is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgefusion.compiler.frontend.from_graph import network_from_graph
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.lowering.lower import lower, stripes
from edgefusion.compiler.network.ranges import Range
from edgefusion.compiler.network.scales import assign_scales, measured_tensors, with_scales
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.passes.assign_precision import AssignPrecision
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.passes.quantize_w8a16 import QuantizeW8A16
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.kernels import lookup
from edgefusion.runtime.kernels.exact_tables import exact_tables
from edgefusion.runtime.program import Program
from edgefusion.runtime.target import load_target
from edgefusion.runtime.tensor_numbers import steps_of
from edgefusion.toolchain.accuracy.float_reference import ReferenceGraph
from edgefusion.toolchain.accuracy.layer_accuracy import CAUSES, LayerError, LayerProbe
from tests.graph_cases import CONTEXT, Array, parse

TEXT = "g (float[64, 32] x) => (float[64, 48] y) { h = MatMul(x, w) s = Sigmoid(h) y = Mul(h, s) }"
RANGE = 8.0
STEP = RANGE / 32767


def weights(*, on_grid: bool) -> Array:
    """[32, 48], of magnitude up to 0.127; ``on_grid``: multiples of a thousandth."""
    q = np.random.default_rng(0).integers(-127, 128, (32, 48)).astype(np.float32)
    q[0] = 127
    spread = 0.0 if on_grid else np.random.default_rng(1).uniform(-0.4, 0.4, q.shape)
    made: Array = ((q + spread) / 1000).astype(np.float32)
    return made


def inputs() -> Array:
    """Multiples of the step of x, and not of 256 steps."""
    steps = np.random.default_rng(2).integers(-20000, 20000, (64, 32))
    made: Array = (steps * STEP).astype(np.float32)
    return made


@dataclass(frozen=True)
class Case:
    """One matmul with SiLU, its program, and what measures it."""

    program: Program
    probe: Callable[[Program], LayerProbe]

    def error(self, **factors: float) -> LayerError:
        """The op's error when scales are multiplied by ``factors`` (x, stage, y)."""
        records = []
        for t in self.program.tensors:
            factor = factors.get("stage" if "stage" in t.name else t.name, 1.0)
            scale = t.numbers.scale
            records.append(t if scale is None else replace(t, numbers=steps_of(scale * factor)))
        program = replace(self.program, tensors=tuple(records))
        errors, _ = self.probe(program).measure({"x": inputs()})
        (found,) = (e for e in errors.values() if e.causes)
        return found


def case(folder: Path, *, on_grid: bool = True) -> Case:
    """Compiled; the reference has the weights before rounding."""
    models = {}
    for name in ("reference", "rounded"):
        graph = Graph.from_model(parse(TEXT, {"w": weights(on_grid=on_grid)}))
        passes = default_passes("w8a16")
        if name == "reference":
            rounding = (AssignPrecision, QuantizeW8A16)
            passes = tuple(p for p in passes if not isinstance(p, rounding))
        PassManager(passes).run(graph, replace(CONTEXT, component="unet"))
        graph.save(folder / f"{name}.onnx", folder / f"{name}.safetensors")
        models[name] = onnx.load(folder / f"{name}.onnx", load_external_data=False)
    network = network_from_graph(graph, "unet")
    constants = {t.name: np.asarray(t.values()) for t in graph.constants}
    machine = load_target("exynos2400").machine
    ranges = {name: Range(-RANGE, RANGE) for name in measured_tensors(network)}
    program = lower(network, machine, schedule_named("mlt")).program
    program = with_scales(program, assign_scales(network, ranges))
    reference = ReferenceGraph(models["reference"], folder, "source")

    def probe(changed: Program) -> LayerProbe:
        executor = Executor(changed, machine, constants)
        return LayerProbe(changed, executor, models["rounded"], constants, reference)

    return Case(program, probe)


def shares(error: LayerError) -> dict[str, float]:
    """Causes by their share of the isolated noise."""
    return {name: error.causes[name] / error.isolated.noise for name in CAUSES}


@pytest.mark.parametrize(
    ("cause", "factors"),
    [
        ("weights", {}),
        ("inputs", {"x": 256.0}),
        ("output", {"y": 256.0}),
        ("requantization", {"stage": 256.0}),
    ],
)
def test_a_planted_rounding_is_found_and_nothing_else(
    tmp_path: Path, cause: str, factors: dict[str, float]
) -> None:
    error = case(tmp_path, on_grid=cause != "weights").error(**factors)
    found = shares(error)
    assert found[cause] == pytest.approx(1.0, abs=0.05), found
    assert all(found[other] < 0.02 for other in CAUSES if other != cause), found
    assert error.causes["clipping"] == 0


def test_planted_clipping_is_part_of_the_output(tmp_path: Path) -> None:
    error = case(tmp_path).error(y=1 / 8)
    assert error.clipped > 0
    assert error.causes["clipping"] / error.isolated.noise > 0.99
    assert error.causes["clipping"] <= error.causes["output"] * (1 + 1e-9)


def test_a_planted_table_error_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tabulated = lookup._tabulated
    monkeypatch.setattr(lookup, "_tabulated", lambda *a: tabulated(*a) // 256 * 256 + 128)
    found = shares(case(tmp_path).error())
    assert found["tables"] == pytest.approx(1.0, abs=0.05), found
    assert all(found[other] < 0.02 for other in CAUSES if other != "tables"), found


def test_causes_add_up_and_own_noise_leaves_operands_out(tmp_path: Path) -> None:
    error = case(tmp_path, on_grid=False).error(x=64.0, y=64.0)
    assert sum(shares(error).values()) == pytest.approx(1.0, abs=0.1)
    own = error.causes["output"] + error.causes["requantization"] + error.causes["tables"]
    assert error.own_noise() == pytest.approx(own)
    assert error.own_noise(reads_input=True) == pytest.approx(own + error.causes["inputs"])


@pytest.mark.parametrize("name", ["silu", "gelu", "sigmoid"])
def test_exact_tables_round_the_function_and_leave_no_trace(name: str) -> None:
    x = np.arange(-32768, 32768) * 3e-4
    before = lookup.lookup(name, 3e-4, 3.1e-4)
    with exact_tables():
        exact = lookup.lookup(name, 3e-4, 3.1e-4)
    expected = lookup.real_function(name)(x) / 3.1e-4
    assert np.abs(exact - expected).max() <= 0.5 + 1e-9
    assert np.abs(before.astype(int) - exact).max() <= 1
    assert lookup.lookup(name, 3e-4, 3.1e-4) is before


LAYERS = (
    "g (float[768, 32] x) => (float[768, 24] y) { h = MatMul(x, w) s = Sigmoid(h) m = Mul(h, s)"
    " n = LayerNormalization <axis = -1> (m, g, b) y = MatMul(n, v) }"
)


@pytest.mark.parametrize("sram_bytes", [24 * 1024, 2 << 20], ids=["stripes", "whole"])
def test_layers_have_the_same_errors_where_their_results_stay_in_sram(
    tmp_path: Path, sram_bytes: int
) -> None:
    random = np.random.default_rng(3)
    constants = {
        "w": weights(on_grid=False), "g": random.normal(size=48).astype(np.float32),
        "b": random.normal(size=48).astype(np.float32),
        "v": random.normal(size=(48, 24)).astype(np.float32),
    }  # fmt: skip
    graph = Graph.from_model(parse(LAYERS, constants))
    PassManager(default_passes("w8a16")).run(graph, replace(CONTEXT, component="unet"))
    graph.save(tmp_path / "g.onnx", tmp_path / "g.safetensors")
    model = onnx.load(tmp_path / "g.onnx", load_external_data=False)
    network = network_from_graph(graph, "unet")
    stored = {t.name: np.asarray(t.values()) for t in graph.constants}
    machine = load_target("exynos2400").machine.with_values(sram_bytes=sram_bytes)
    scales = assign_scales(network, {name: Range(-9, 9) for name in measured_tensors(network)})
    reference = ReferenceGraph(model, tmp_path, "source")
    found = {}
    for name in ("mlt", "pipelined"):
        schedule = schedule_named(name)
        program = with_scales(lower(network, machine, schedule).program, scales)
        rolling = stripes(program, network, machine, schedule)
        executor = Executor(program, machine, stored)
        probe = LayerProbe(program, executor, model, stored, reference, rolling)
        x = np.random.default_rng(4).uniform(-9, 9, (768, 32)).astype(np.float32)
        found[name], _ = probe.measure({"x": x})
    gone = [t.name for t in program.tensors if t.stays_in_sram]
    assert gone, "something stays in SRAM"
    assert bool(rolling) == (sram_bytes < 100_000)
    assert found["pipelined"] == found["mlt"]
    assert len(found["mlt"]) == len(network.ops)
