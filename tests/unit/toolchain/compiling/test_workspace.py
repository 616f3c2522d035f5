"""Exports are made once, and gone as soon as nothing needs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.models import export
from edgefusion.models.source import resolve_source
from edgefusion.runtime.progress import silent
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.accuracy.recipe import Recipe
from edgefusion.toolchain.compiling.budgets import Budgets
from edgefusion.toolchain.compiling.scaling import CalibrationSettings
from edgefusion.toolchain.compiling.settings import Settings
from edgefusion.toolchain.compiling.workspace import open_workspace

TINY = resolve_source("tiny-test")
COMPONENTS = ("text_encoder", "unet", "vae_decoder")


def settings(recipe: Recipe, *prompts: str) -> Settings:
    machine, calibration = load_target("exynos2400").machine, CalibrationSettings(prompts)
    return Settings(machine, (), recipe, Budgets(), {}, None, silent, calibration)


def test_what_a_calibration_runs_is_what_is_before_an_int16_component() -> None:
    usual, narrow = Recipe(), Recipe(precision={"vae_decoder": "w8a16"})
    assert settings(usual, "a boat").exports_for(TINY, COMPONENTS) == {"text_encoder"}
    assert settings(usual, "a boat").exports_for(TINY, COMPONENTS[2:]) == set()
    assert settings(narrow, "a boat").exports_for(TINY, COMPONENTS[2:]) == {"text_encoder", "unet"}
    assert settings(narrow).exports_for(TINY, COMPONENTS) == set(), "nothing to calibrate with"


@pytest.mark.parametrize("kept", [False, True])
def test_an_export_is_made_once_and_released(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def fake(source: object, component: str, folder: Path, **_: object) -> Path:
        made.append(component)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (f"{component}.onnx.data", f"{component}.onnx"):
            (folder / name).touch()
        return folder / f"{component}.onnx"

    monkeypatch.setattr(export, "export_component", fake)
    source = resolve_source("tiny-test")
    with open_workspace(tmp_path if kept else None) as workspace:
        paths = [
            workspace.export(source, name, {}, silent) for name in ("text_encoder", "unet") * 2
        ]
        assert made == ["text_encoder", "unet"]
        assert paths[0] == paths[2] != paths[1] == paths[3]
        workspace.release_exports(but={"text_encoder"})
        left = {path.name for path in paths[0].parent.iterdir()}
        text_encoder = {"text_encoder.onnx", "text_encoder.onnx.data"}
        assert left == text_encoder | ({"unet.onnx", "unet.onnx.data"} if kept else set())
        workspace.release_exports()
        assert paths[0].exists() == kept
    assert paths[0].exists() == kept
