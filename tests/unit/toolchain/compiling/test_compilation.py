"""The order of a compilation's stages: what can be made by other processes is begun first."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from edgefusion.models.source import resolve_source
from edgefusion.runtime.progress import silent
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.accuracy.recipe import Recipe
from edgefusion.toolchain.compiling.budgets import Budgets
from edgefusion.toolchain.compiling.compilation import Compilation
from edgefusion.toolchain.compiling.scaling import CalibrationSettings
from edgefusion.toolchain.compiling.settings import Settings
from edgefusion.toolchain.compiling.stopwatch import Stopwatch
from edgefusion.toolchain.compiling.workspace import open_workspace

COMPONENTS = ("text_encoder", "unet", "vae_decoder")


@pytest.mark.parametrize("prompts", [(), ("a boat",)])
def test_all_are_begun_before_any_is_measured(
    prompts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def begin(compilation: Compilation, name: str, *, busy: bool) -> Any:
        assert busy
        told.append(f"begin {name}")
        folder = compilation.workspace.exports
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.onnx").touch()
        return SimpleNamespace(name=name, workspace=compilation.workspace)

    def measure(_: Compilation, begun: Any, known: Mapping[str, object]) -> Any:
        lie = sorted(path.stem for path in begun.workspace.exports.iterdir())
        told.append(f"measure {begun.name} after {len(known)}, {', '.join(lie)}")
        return SimpleNamespace(compared=SimpleNamespace(vectors=None))

    def finish(_: Compilation, begun: Any, _values: object, evaluations: int) -> str:
        told.append(f"finish {begun.name} of {evaluations}")
        return str(begun.name)

    monkeypatch.setattr(Compilation, "begin", begin)
    monkeypatch.setattr(Compilation, "measure", measure)
    monkeypatch.setattr(Compilation, "finish", finish)
    machine, calibration = load_target("exynos2400").machine, CalibrationSettings(prompts)
    settings = Settings(machine, (), Recipe(), Budgets(), {}, None, silent, calibration)
    with open_workspace(None) as workspace, ExitStack() as processes:
        source = resolve_source("tiny-test")
        compilation = Compilation(source, settings, workspace, Stopwatch(), processes)
        assert compilation.of_all(COMPONENTS, 2) == [*COMPONENTS]
        assert [*workspace.exports.iterdir()] == []
    needed = "text_encoder, unet" if prompts else "unet"
    assert told == [
        "begin unet",
        "begin text_encoder",
        "begin vae_decoder",
        "measure text_encoder after 0, text_encoder, unet, vae_decoder",
        f"measure unet after 1, {needed}, vae_decoder",
        "measure vae_decoder after 2, vae_decoder",
        "finish text_encoder of 1",
        "finish unet of 2",
        "finish vae_decoder of 1",
    ]
