"""Causes of a layer's error: each planted alone is the one that is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgefusion.compiler.frontend.from_graph import network_from_graph
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
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
from edgefusion.runtime.machine import Machine
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
        model = models["rounded"]
        return LayerProbe(changed, executor, network, machine, model, constants, reference)

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
    expected = lookup.tabulated_function(name).real(x) / 3.1e-4
    assert np.abs(exact - expected).max() <= 0.5 + 1e-9
    assert np.abs(before.astype(int) - exact).max() <= 1
    assert lookup.lookup(name, 3e-4, 3.1e-4) is before


NORM = (
    "g (float[768, 32] x) => (float[768, 24] y) { h = MatMul(x, w) s = Sigmoid(h) m = Mul(h, s)"
    " n = LayerNormalization <axis = -1> (m, g, b) y = MatMul(n, v) }"
)
GATED = (
    "g (float[768, 32] x) => (float[768, 24] y) { h = MatMul(x, w) k = Add(h, b)"
    " l, r = Split <axis = -1, num_outputs = 2> (k) s = Sigmoid(r) t = Mul(r, s) m = Mul(l, t)"
    " y = MatMul(m, v) }"
)


@dataclass(frozen=True)
class Layers:
    """A graph of several ops, compiled by any schedule for so much SRAM, and what measures it."""

    folder: Path
    text: str
    sram_kib: int

    @cached_property
    def machine(self) -> Machine:
        """With that SRAM."""
        return load_target("exynos2400").machine.with_values(sram_bytes=self.sram_kib * 1024)

    @cached_property
    def graph(self) -> Graph:
        """After all passes."""
        random = np.random.default_rng(3)
        inner = 24 if self.text is GATED else 48
        constants = {
            "w": weights(on_grid=False), "g": random.normal(size=48).astype(np.float32),
            "b": random.normal(size=48).astype(np.float32),
            "v": random.normal(size=(inner, 24)).astype(np.float32),
        }  # fmt: skip
        graph = Graph.from_model(parse(self.text, constants))
        PassManager(default_passes("w8a16")).run(graph, replace(CONTEXT, component="unet"))
        graph.save(self.folder / "g.onnx", self.folder / "g.safetensors")
        return graph

    @cached_property
    def network(self) -> Network:
        """Of the graph."""
        return network_from_graph(self.graph, "unet")

    @cached_property
    def constants(self) -> dict[str, Array]:
        """Of the graph."""
        return {t.name: np.asarray(t.values()) for t in self.graph.constants}

    def program(self, schedule: str) -> Program:
        """With scales."""
        network = self.network
        scales = assign_scales(network, {n: Range(-40, 40) for n in measured_tensors(network)})
        return with_scales(lower(network, self.machine, schedule_named(schedule)).program, scales)

    def errors(self, program: Program, changed: Mapping[str, Array]) -> dict[str, LayerError]:
        """By op, some constants of the program being ``changed``."""
        model = onnx.load(self.folder / "g.onnx", load_external_data=False)
        reference = ReferenceGraph(model, self.folder, "source")
        constants = {**self.constants, **changed}
        executor = Executor(program, self.machine, constants)
        probe = LayerProbe(
            program, executor, self.network, self.machine, model, constants, reference
        )
        x = np.random.default_rng(4).uniform(-9, 9, (768, 32)).astype(np.float32)
        found, _ = probe.measure({"x": x})
        return found


def plan_of(program: Program) -> str:
    """Kinds of ops, those of a group by +, and which tensors stay whole."""
    groups: list[list[str]] = [[] for _ in program.groups]
    for op in program.ops:
        groups[op.group].append(op.kind)
    whole = [program.tensors[r.tensor].name for r in program.residents]
    return ", ".join([*map(" + ".join, groups), *(f"{name} whole" for name in whole)])


@pytest.mark.parametrize(
    ("text", "sram_kib", "plan"),
    [
        (NORM, 16, "matmul, layer_norm + matmul"),
        (NORM, 32, "matmul + layer_norm + matmul"),
        (GATED, 16, "gated_matmul, matmul"),
        (GATED, 24, "gated_matmul + matmul"),
        (GATED, 64, "gated_matmul, matmul, m whole"),
    ],
)
def test_layers_have_the_same_errors_where_their_results_stay_in_sram(
    tmp_path: Path, text: str, sram_kib: int, plan: str
) -> None:
    layers = Layers(tmp_path, text, sram_kib)
    program = layers.program("pipelined")
    assert plan_of(program) == plan, "choose another size"
    found = layers.errors(program, {})
    assert found == layers.errors(layers.program("mlt"), {})
    assert set(found) == {op.name for op in layers.network.ops}
    assert all(error.causes and error.accumulated.count for error in found.values())


@pytest.mark.parametrize("column", [5, 30], ids=["value", "gate"])
def test_what_is_wrong_with_a_product_is_not_blamed_on_its_gated_unit(
    tmp_path: Path, column: int
) -> None:
    layers = Layers(tmp_path, GATED, 24)
    program = layers.program("pipelined")
    (w,) = (name for name, values in layers.constants.items() if values.shape == (32, 48))
    wrong = layers.constants[w].copy()
    wrong[:, column] = 0
    right, found = (layers.errors(program, changed) for changed in ({}, {w: wrong}))
    product, unit = (op.name for op in layers.network.ops[:2])
    assert found[product].isolated.noise > 100 * right[product].isolated.noise
    assert found[product].causes["weights"] == pytest.approx(found[product].isolated.noise, rel=0.1)
    assert found[unit].isolated == right[unit].isolated
    assert found[unit].accumulated.noise > 100 * right[unit].accumulated.noise
