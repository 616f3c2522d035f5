"""What files say of how a source is compiled is what ``compile`` takes, by its names."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.validation import validated
from edgefusion.toolchain.compiling.compile_source import compile_source
from edgefusion.toolchain.compiling.source_options import SourceOptions

ELSEWHERE = {
    # What is made of it, and where.
    *("source", "output", "target", "schedules", "steps", "progress"),
    *("budgets", "work_dir", "dump_ir"),
    # Values, which no latency depends on.
    *("calibration_prompts", "pictures", "calibration", "calibration_method"),
}


def test_nothing_that_compile_takes_is_missing() -> None:
    taken = signature(compile_source).parameters
    arguments = SourceOptions().arguments
    assert set(arguments) == set(taken) - ELSEWHERE
    for name, value in arguments.items():
        usual = taken[name].default
        assert value == usual or (not value and not usual), name
    assert SourceOptions().chosen == {}


def test_each_option_arrives() -> None:
    said = {
        "source": "a", "components": ["unet"], "recipe": "r.toml", "random_weights": 0,
        "variant": "fp16", "lora": ["l"], "shapes": {"x": [1, 2]}, "scheduler": "DDIM",
        "height": 64, "width": 32, "guidance": 2.0, "image_to_image": True, "strength": 0.5,
        "control_scale": 0.5, "any_timestep": True, "transposing": False,
    }  # fmt: skip
    assert set(said) == {each.name for each in fields(SourceOptions)}
    options = validated(SourceOptions, said, "it")
    assert set(options.chosen) == set(said)
    usual = SourceOptions().arguments
    assert all(value != usual[name] for name, value in options.arguments.items())


def test_files_are_found_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    (tmp_path / "r.toml").write_text("text")

    def find(name: str) -> str:
        return str(tmp_path / name) if (tmp_path / name).exists() else name

    given = SourceOptions(
        source="tiny-test", recipe="r.toml", lora=("a.safetensors:0.5", "a.safetensors", "b:1")
    )
    found = given.located(find)
    place = f"{tmp_path}/a.safetensors"
    assert found.lora == (f"{place}:0.5", place, "b:1")
    assert found.source == "tiny-test"
    assert found.recipe_text() == "text"
    with pytest.raises(InputError, match=r"cannot read the recipe r\.toml"):
        given.recipe_text()
