"""Target files: what is read, and that nothing wrong in one is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import machine_from_parameters
from edgefusion.runtime.target import STATUSES, list_targets, load_target

TARGET = Path(__file__).parents[3] / "runtime" / "targets" / "exynos2400.toml"


def load_edited(tmp_path: Path, old: str, new: str) -> None:
    text = TARGET.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"the test expects one {old!r} in the target"
    path = tmp_path / "edited.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    load_target(str(path))


def test_shipped_target() -> None:
    assert "exynos2400" in list_targets()
    target = load_target("exynos2400")
    assert target.machine.name == "exynos2400"
    assert target.machine.sram_bytes == 6 * 2**20
    assert type(target.machine.sram_bytes) is int
    assert target.machine.engines == dict.fromkeys(EngineKind, 1)
    assert set(target.provenance) >= {"clock_hz", "tensor_rate.fp16", "vector_cycles.softmax"}
    assert {entry.status for entry in target.provenance.values()} <= set(STATUSES)


def test_path_and_name_give_the_same_machine() -> None:
    assert load_target(str(TARGET)).machine == load_target("exynos2400").machine


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema_version = 1", "schema_version = 2", "expected schema_version = 1, found 2"),
        ("schema_version = 1", "schema_version = 1\nfoo = 3", "foo = 3"),
        ("clock_hz =", "clock_khz =", "unknown key 'clock_khz'"),
        ("semaphore_ns =", "#", "missing semaphore_ns"),
        ("dma_engines =", "#", "engines must name exactly dma_engines"),
        ("dma_engines = { value = 1", "dma_engines = { value = 0", "dma_engines .* 0, found 0"),
        ("dma_engines = { value = 1", "dma_engines = { value = 256", "dma_engines .* 255, found"),
        ("value = 6291456", "value = 9223372036854775808", "sram_bytes .* found"),
        ("softmax =", "softmaxx =", "vector_cycles must name exactly .* softmax, softmaxx"),
        ("w8a16 =", "w16a8 =", "tensor_rate must name exactly .* w16a8, w8a16"),
        ("value = 6291456", "value = -1", "sram_bytes .* found"),
        ("value = 6291456", "value = '6 MB'", "sram_bytes .* found"),
        ("value = 6291456", "value = true", "sram_bytes .* found"),
        ("value = 6291456", "value = nan", "sram_bytes .* found"),
        ("value = 6291456", "value = 1024.5", "sram_bytes .*fractional part, found 1024.5"),
        ("value = 1.196e9", "value = 0", "clock_hz should be greater than 0, found 0"),
        ("value = 1.196e9", "value = inf", "clock_hz"),
        ("[tensor.tensor_rate]", "tensor_rate = 3\n[tensor.other]", "tensor_rate"),
        ('value = 1.196e9, status = "secondary"', "value = 1e9", "missing clock_hz.status"),
        (
            'value = 1.196e9, status = "secondary"',
            'value = 1e9, status = "hoped"',
            "clock_hz.status .*hoped",
        ),
        ("value = 1.196e9,", "value = 1.196e9, unit = 'Hz',", "unknown key 'clock_hz.unit'"),
        ("[clock]", "[clock", "at the end of a table"),
    ],
)
def test_mistakes_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=f"(?s)edited.toml.*{message}"):
        load_edited(tmp_path, old, new)


def test_a_free_semaphore_is_allowed(tmp_path: Path) -> None:
    now = load_target("exynos2400").machine.semaphore_ns
    load_edited(tmp_path, f"semaphore_ns = {{ value = {now}", "semaphore_ns = { value = 0")


def test_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'exynos9'.*exynos2400"):
        load_target("exynos9")
    with pytest.raises(InputError, match="cannot read"):
        load_target("nowhere/absent.toml")


def test_with_values_replaces_also_inside_tables() -> None:
    machine = load_target("exynos2400").machine
    other = machine.with_values(**{"vector_cycles.softmax": 1.0, "dma_engines": 2})
    assert (other.vector_cycles["softmax"], other.engines[EngineKind.DMA]) == (1.0, 2)
    assert other.vector_cycles["add"] == machine.vector_cycles["add"]
    assert machine.vector_cycles["softmax"] != 1.0
    assert other.digest != machine.digest
    assert machine.with_values().digest == machine.digest


@pytest.mark.parametrize("name", ["clock_khz", "vector_cycles.softmaxx", "clock_hz.x"])
def test_with_values_refuses_unknown_names(name: str) -> None:
    with pytest.raises(UsageError, match="unknown machine parameter"):
        load_target("exynos2400").machine.with_values(**{name: 1.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sram_bytes", -5),
        ("sram_bytes", 1024.5),
        ("sram_bytes", "6 MB"),
        ("tensor_engines", 0),
        ("vector_cycles.softmax", -1.0),
        ("tensor_rate.fp16", 0.0),
        ("tensor_rate", {"fp16": 1.0}),
        ("clock_hz", float("nan")),
        ("semaphore_ns", True),
    ],
)
def test_with_values_refuses_what_no_machine_has(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"target exynos2400: {name} .*found"):
        load_target("exynos2400").machine.with_values(**{name: value})


def test_parameters_make_the_same_machine() -> None:
    machine = load_target("exynos2400").machine.with_values(vector_engines=3)
    assert machine.parameters()["vector_engines"] == 3
    assert machine_from_parameters(machine.parameters()) == machine
    with pytest.raises(ValidationError, match="clock_khz"):
        machine_from_parameters({**machine.parameters(), "clock_khz": 1.0})
