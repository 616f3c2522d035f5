"""Settings files: both formats, overrides, and no key that is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.models.training.settings import DecoderSettings, KdSettings, LcmSettings
from edgefusion.models.training.settings_file import (
    differences,
    load_settings,
    save_settings,
)
from edgefusion.models.training.settings_guide import settings_guide, settings_schema
from edgefusion.runtime.errors import InputError, UsageError

TOML = """
teacher = "sd-v1.4"
[data]
path = "L-orig"
[optimizer]
learning_rate = 5e-5
[validation]
prompts = ["a fox"]
"""
YAML = """
teacher: sd-v1.4
data: {path: L-orig}
optimizer:
  learning_rate: 5e-5
validation:
  prompts: [a fox]
"""
BASE = ("teacher=t", "data.path=d")


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_both_formats_mean_the_same(tmp_path: Path) -> None:
    toml = load_settings(KdSettings, written(tmp_path, "a.toml", TOML))
    assert toml == load_settings(KdSettings, written(tmp_path, "a.yaml", YAML))
    assert toml.optimizer.learning_rate == 5e-5
    assert toml.validation.prompts == ("a fox",)
    assert toml.run.seed == 0


def test_overrides_win(tmp_path: Path) -> None:
    file = written(tmp_path, "a.toml", TOML)
    settings = load_settings(
        KdSettings,
        file,
        ["optimizer.learning_rate=1e-5", "run.steps=7", "validation.steps=[1, 2]", "student=base"],
    )
    assert settings.optimizer.learning_rate == 1e-5
    assert settings.run.steps == 7
    assert settings.validation.steps == (1, 2)
    assert settings.student == "base"
    assert settings.data.path == "L-orig"


@pytest.mark.parametrize("kind", [KdSettings, DecoderSettings, LcmSettings])
def test_resolved_settings_read_back(tmp_path: Path, kind: type) -> None:
    extra = ("student=s",) if kind is LcmSettings else ()
    settings = load_settings(kind, None, [*BASE, *extra, "optimizer.learning_rate=3e-7"])
    path = tmp_path / "config.yaml"
    save_settings(settings, path)
    assert load_settings(kind, path) == settings
    assert "max_gradient_norm: 1.0" in path.read_text(), "defaults included"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rat=1", r"unknown key optimizer\.learning_rat \(did you mean learn"),
        ("zeal=1", r"unknown key zeal \(known are teacher, data, student"),
        ("run.steps=many", r"run\.steps is 'many'"),
        ("run.steps=0", r"run\.steps is 0, expected greater than or equal to 1"),
        ("run.mixed_precision=fp8", r"run\.mixed_precision is 'fp8'"),
        ("caption_dropout=1.5", "caption_dropout is 1.5"),
        ("optimizer.learning_rate=.inf", r"optimizer\.learning_rate is inf"),
        ("teacher.x=1", "teacher is a value, not a section"),
        ("run.steps", "expected key=value"),
        ("run.steps=[1", "is no YAML"),
    ],
)
def test_what_is_not_understood_is_refused(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_settings(KdSettings, None, [*BASE, override])


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match=r"teacher is missing; data is missing"):
        load_settings(KdSettings, None)


def test_unreadable_files(tmp_path: Path) -> None:
    for name, text in (("a.toml", "x ="), ("a.yaml", "x: ["), ("b.yaml", "- 1")):
        with pytest.raises(InputError, match=name):
            load_settings(KdSettings, written(tmp_path, name, text))
    with pytest.raises(InputError, match=r"none\.toml cannot be read"):
        load_settings(KdSettings, tmp_path / "none.toml")
    with pytest.raises(UsageError, match=r"expected a \.toml"):
        load_settings(KdSettings, written(tmp_path, "a.json", "{}"))


def test_differences_are_named() -> None:
    one = load_settings(KdSettings, None, BASE)
    two = load_settings(KdSettings, None, [*BASE, "run.seed=1", "student=base"])
    assert differences(one, two) == ["student was 'tiny', now 'base'", "run.seed was 0, now 1"]
    assert differences(one, one) == []


@pytest.mark.parametrize("kind", [KdSettings, LcmSettings, DecoderSettings])
def test_every_setting_is_explained(kind: type) -> None:
    guides = {guide.key: guide for guide in settings_guide(kind)}
    assert {"teacher", "data.path"} <= {key for key, guide in guides.items() if guide.required}
    for guide in guides.values():
        assert guide.meaning, guide.key
        assert guide.accepts, guide.key


@pytest.mark.parametrize("kind", [KdSettings, LcmSettings, DecoderSettings])
def test_guide_has_the_defaults_that_are_used(kind: type) -> None:
    guides = {guide.key: guide for guide in settings_guide(kind)}
    required = [f"{key}=x" for key, guide in guides.items() if guide.required]
    found = load_settings(kind, None, required)
    for key, guide in guides.items():
        value = found
        for part in key.split("."):
            value = getattr(value, part)
        assert value == ("x" if guide.required else guide.default), key


def test_schema_refuses_unknown_keys() -> None:
    schema = settings_schema(KdSettings)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Run"]["properties"]["steps"]["default"] == 50_000
