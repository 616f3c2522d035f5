"""The machine's calibration: limits, provenance, and that the fit improves on its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program
from edgefusion.runtime.target import load_target, target_path
from edgefusion.toolchain.paper.machine_calibration import (
    PARAMETERS,
    Calibration,
    calibrate,
    write_target,
)
from tests.lowering_cases import attention_case

TARGET = load_target("exynos2400")
BLOCK = attention_case(1024, 1024, heads=4, depth=40)


def compile_block(machine: Machine, schedule: str) -> Program:
    return lower(BLOCK, machine, schedule_named(schedule)).program


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    """A fit of the attention block alone, from a machine that is off, with half as wide a port for
    held operands as for those that stream by."""
    half = TARGET.machine.tensor_feed_bytes_per_cycle / 2
    off = TARGET.machine.with_values(
        **{"vector_cycles.softmax": 30.0}, tensor_load_bytes_per_cycle=half
    )
    return calibrate(off, compile_block, rounds=1)


def test_fit_improves_the_shares(fitted: Calibration) -> None:
    found = {p.parameter.name: p for p in fitted.parameters}
    assert found["vector_cycles.softmax"].start == 30.0
    assert found["vector_cycles.softmax"].value < 25.0
    softmax = next(r for r in fitted.residuals if "softmax, without" in r.name)
    assert softmax.ours == pytest.approx(softmax.paper, abs=1.5)


def test_parameters_stay_within_their_limits(fitted: Calibration) -> None:
    for p in fitted.parameters:
        assert p.parameter.low <= p.value <= p.parameter.high


def test_shipped_values_are_marked_as_calibrated_and_plausible() -> None:
    for p in PARAMETERS:
        assert TARGET.provenance[p.name].status == "calibrated"
        table, _, entry = p.name.partition(".")
        value = getattr(TARGET.machine, table)
        assert p.low < float(value[entry] if entry else value) < p.high


def test_written_target_reads_back(fitted: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "fitted.toml"
    write_target(target_path("exynos2400"), fitted, path)
    machine = load_target(str(path)).machine
    for p in fitted.parameters:
        table, _, entry = p.parameter.name.partition(".")
        value = getattr(machine, table)
        assert float(value[entry] if entry else value) == pytest.approx(p.value, rel=1e-5)
    assert machine.sram_bytes == TARGET.machine.sram_bytes


def test_load_port_follows_the_feed(fitted: Calibration, tmp_path: Path) -> None:
    """No figure determines it: it stays the multiple of the feed that it was, and is no fit."""
    path = tmp_path / "fitted.toml"
    write_target(target_path("exynos2400"), fitted, path)
    for machine in (fitted.machine, load_target(str(path)).machine):
        half = machine.tensor_feed_bytes_per_cycle / 2
        assert machine.tensor_load_bytes_per_cycle == pytest.approx(half, rel=1e-5)
    assert load_target(str(path)).provenance["tensor_load_bytes_per_cycle"].status == "inferred"
    shipped = TARGET.machine
    assert shipped.tensor_load_bytes_per_cycle == shipped.tensor_feed_bytes_per_cycle


def test_template_without_a_parameter_is_refused(fitted: Calibration, tmp_path: Path) -> None:
    text = target_path("exynos2400").read_text(encoding="utf-8")
    broken = tmp_path / "broken.toml"
    broken.write_text(text.replace("semaphore_ns = {", "other = {"), encoding="utf-8")
    with pytest.raises(InputError, match="semaphore_ns"):
        write_target(broken, fitted, tmp_path / "out.toml")
