"""Edited targets, targets over a base, and the complete files that are written of them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.target import Provenance, load_target, target_of
from edgefusion.runtime.target_toml import target_toml

OVER = """
schema_version = 1
name = "half"
base = "exynos2400"
[memory]
sram_bytes = 3145728
[vector.vector_cycles]
softmax = { value = 6.0, status = "inferred", source = "a new kernel" }
"""


def over(folder: Path, old: str = "", new: str = "", name: str = "half.toml") -> str:
    assert old in OVER
    path = folder / name
    path.write_text(OVER.replace(old, new) if old else OVER)
    return str(path)


def test_a_set_value_says_so_and_in_place_of_what() -> None:
    own = load_target("exynos2400")
    edited = own.with_values({"dma_bandwidth_bytes_per_s": 3e10, "sram_align_bytes": 64})
    assert edited.machine.dma_bandwidth_bytes_per_s == 3e10
    assert edited.machine.name == "exynos2400 (edited)"
    origin = edited.provenance["dma_bandwidth_bytes_per_s"]
    replaced = int(own.machine.dma_bandwidth_bytes_per_s)
    assert origin == Provenance("set", f"in place of {replaced} (calibrated)")
    assert edited.provenance["sram_align_bytes"] == own.provenance["sram_align_bytes"]
    assert "calibrated" not in edited.description
    assert "dma_bandwidth_bytes_per_s" in edited.description
    again = edited.with_values({"vector_cycles.softmax": 1.0})
    assert again.machine.name == "exynos2400 (edited)"
    assert again.provenance["vector_cycles.softmax"].status == "set"
    assert again.provenance["dma_bandwidth_bytes_per_s"].status == "set"


def test_nothing_changed_is_the_same_target() -> None:
    own = load_target("exynos2400")
    assert own.with_values({}) is own
    assert own.with_values({"sram_bytes": own.machine.sram_bytes}) is own


@pytest.mark.parametrize("values", [{"sram_bytes": -5}, {"clock_khz": 1}, {"clock_hz": 0.0}])
def test_edits_that_no_machine_has(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="exynos2400"):
        load_target("exynos2400").with_values(values)


def test_a_base_gives_what_is_left_out(tmp_path: Path) -> None:
    base, target = load_target("exynos2400"), load_target(over(tmp_path))
    expected = base.machine.with_values(
        name="half", sram_bytes=3145728, **{"vector_cycles.softmax": 6.0}
    )
    assert target.machine == expected
    changed = {
        "sram_bytes": Provenance("set", "in place of 6291456 (secondary)"),
        "vector_cycles.softmax": Provenance("inferred", "a new kernel"),
    }
    assert target.provenance == {**base.provenance, **changed}
    assert target.description == "exynos2400 with other values"


def test_bases_of_bases_and_beside_the_file(tmp_path: Path) -> None:
    over(tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    text = 'schema_version = 1\nname = "third"\ndescription = "mine"\nbase = "../half.toml"\n'
    (inner / "third.toml").write_text(text + "[memory]\nsram_align_bytes = 128\n")
    third = load_target(str(inner / "third.toml"))
    assert third.description == "mine"
    assert (third.machine.sram_bytes, third.machine.sram_align_bytes) == (3145728, 128)
    assert third.provenance["sram_bytes"].status == "set"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"exynos2400"', '"half.toml"', "its base leads back to it: .*half.toml -> .*half.toml"),
        ('"exynos2400"', '"exynos9"', "half.toml: base: unknown target 'exynos9'"),
        ('"exynos2400"', '"absent.toml"', "cannot read target file .*absent.toml"),
        ('"exynos2400"', "3", "expected base = .*found 3"),
        ('name = "half"', 'name = "exynos2400"', "is also that of its base"),
        ('name = "half"', "", "expected name = a text, found None"),
        ('name = "half"', "name = 3", "expected name = a text, found 3"),
        ('name = "half"', 'name = "half"\ndescription = 3', "expected description = a text"),
        ("3145728", "-1", "sram_bytes .*found -1"),
        ("3145728", "'3 MB'", "sram_bytes .*found"),
        ("sram_bytes", "sram_mb", "unknown key 'sram_mb'"),
        ("softmax", "softmaxx", "vector_cycles must name exactly .*softmaxx"),
        ("schema_version = 1", "schema_version = 3", "expected schema_version = 1, found 3"),
    ],
)
def test_mistakes_over_a_base(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_target(over(tmp_path, old, new))


def test_a_circle_of_two(tmp_path: Path) -> None:
    over(tmp_path, '"exynos2400"', '"other.toml"')
    over(tmp_path, '"exynos2400"', '"half.toml"', name="other.toml")
    with pytest.raises(InputError, match=r"half.toml -> .*other.toml -> .*half.toml"):
        load_target(str(tmp_path / "half.toml"))


def test_a_file_without_base_gives_everything_itself(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a value alone is for a file with a base"):
        load_target(over(tmp_path, 'base = "exynos2400"\n', ""))


def test_the_file_of_a_target_is_its_file() -> None:
    shipped = Path(__file__).parents[3] / "runtime" / "targets" / "exynos2400.toml"
    assert target_toml("exynos2400") == shipped.read_text(encoding="utf-8")


def test_a_written_file_is_complete_and_loads_back(tmp_path: Path) -> None:
    for name, target in (
        ("exynos2400", load_target("exynos2400").with_values({"sram_bytes": 4 << 20})),
        ("exynos2400", load_target("exynos2400").with_values({"tensor_rate.fp16": 1 / 3})),
        (over(tmp_path), load_target(over(tmp_path))),
        (over(tmp_path), load_target(over(tmp_path)).with_values({"dma_setup_ns": 1}).named("x")),
    ):
        text = target_toml(name, target)
        (tmp_path / "written.toml").write_text(text)
        back = load_target(str(tmp_path / "written.toml"))
        assert back == target
        assert back.machine.digest == target.machine.digest
        assert "base" not in tomllib.loads(text)
        assert "# status: published" in text, "the comments are lost"
        assert target_of(back.machine).description == "", "it was taken for the shipped one"


def test_a_name_is_not_empty() -> None:
    with pytest.raises(UsageError, match="name is empty"):
        load_target("exynos2400").named(" ")
