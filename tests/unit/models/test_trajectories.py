"""Trajectories: deployed timesteps, inputs that depend on what was predicted, and on the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgefusion.models.noise_scheduler import NoiseScheduler
from edgefusion.models.source import Source, resolve_source
from edgefusion.models.trajectories import (
    PROMPTS,
    Denoising,
    chosen_prompts,
    tabulated_timesteps,
    token_ids,
)
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.toolchain.accuracy.calibration_inputs import Inputs
from tests.graph_cases import Array

SHAPES = {"sample": (1, 4, 8, 8), "encoder_hidden_states": (1, 77, 32)}
CONDITIONS = {"encoder_hidden_states": np.ones((1, 77, 32), np.float32)}


@pytest.mark.parametrize(
    ("steps", "timesteps"), [(1, (999,)), (2, (999, 499)), (4, (999, 759, 499, 259))]
)
def test_timesteps_are_those_of_latent_consistency(steps: int, timesteps: tuple[int, ...]) -> None:
    denoising = Denoising.of(resolve_source("tiny-test"), steps)
    assert denoising.timesteps() == timesteps
    seen: list[Mapping[str, Array]] = []

    def predict(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        seen.append(inputs)
        return {"noise_pred": 0.1 * inputs["sample"]}

    denoising.latent(predict, SHAPES, CONDITIONS, seed=3)
    assert tuple(int(each["timestep"][0]) for each in seen) == timesteps
    assert all(each["sample"].shape == SHAPES["sample"] for each in seen)


def test_a_trajectory_follows_from_seed_and_prediction() -> None:
    denoising = Denoising(NoiseScheduler(), 2, 0.5)

    def latent(seed: int, factor: float) -> Array:
        return denoising.latent(
            lambda inputs: {"noise_pred": factor * inputs["sample"]}, SHAPES, CONDITIONS, seed
        )

    np.testing.assert_array_equal(latent(0, 0.5), latent(0, 0.5))
    assert not np.array_equal(latent(0, 0.5), latent(1, 0.5))
    assert not np.array_equal(latent(0, 0.5), latent(0, 0.6))
    assert latent(0, 0.5).dtype == np.float32


def test_steps_that_no_student_has() -> None:
    with pytest.raises(UsageError, match="expected 1 to 50"):
        Denoising.of(resolve_source("tiny-test"), 51)


def test_prompts() -> None:
    source = resolve_source("tiny-test")
    assert chosen_prompts(2, source) == PROMPTS[:2]
    assert chosen_prompts(0, source) == ()
    assert chosen_prompts(["a fox", "a ship"], source) == ("a fox", "a ship")
    for count in (-1, 99):
        with pytest.raises(UsageError, match="built-in list"):
            chosen_prompts(count, source)


def test_a_folder_brings_its_own_prompts(tmp_path: Path) -> None:
    source = Source("folder", "own", ("unet",), tmp_path)
    assert chosen_prompts(1, source) == PROMPTS[:1]
    (tmp_path / "prompts.txt").write_text("# ours\na red circle\na blue cross\n")
    assert chosen_prompts(1, source) == ("a red circle",)
    assert chosen_prompts(["a fox"], source) == ("a fox",)
    with pytest.raises(UsageError, match=r"0 to 2, as many as .*prompts\.txt holds"):
        chosen_prompts(3, source)


def test_tables_cover_what_can_be_run() -> None:
    source = resolve_source("tiny-test")
    assert tabulated_timesteps(source, 2) == (999, 759, 499, 259)
    assert set(Denoising.of(source, 3).timesteps()) <= set(tabulated_timesteps(source, 3))
    with pytest.raises(UsageError, match="1 to 50"):
        tabulated_timesteps(source, 51)


def test_tokens_without_a_tokenizer() -> None:
    source = resolve_source("tiny-test")
    first, again, other = token_ids(
        source, "text_encoder", ("a red fox", "a red fox", "a ship"), 77
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (1, 77)
    assert first.dtype == np.int64
    assert 0 <= first.min() <= first.max() == 511


def test_the_vocabulary_of_a_folder(tmp_path: Path) -> None:
    source = Source("folder", "mine", ("text_encoder", "unet"), tmp_path)
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "model_index.json").write_text('{"text_encoder": ["", "CLIPTextModel"]}')
    config = tmp_path / "text_encoder" / "config.json"
    config.write_text(json.dumps({"vocab_size": 100}))
    assert token_ids(source, "text_encoder", ("a fox",), 8)[0].max() == 99
    config.write_text("{}")
    with pytest.raises(InputError, match="names no vocab_size"):
        token_ids(source, "text_encoder", ("a fox",), 8)


def drive(inputs: Inputs, component: str, exports: Path) -> list[Mapping[str, Array]]:
    """The inputs that a component is calibrated with; the U-Net predicts half its input."""
    seen: list[Mapping[str, Array]] = []

    def run(given: Mapping[str, Array]) -> Mapping[str, Array]:
        seen.append(given)
        return {"noise_pred": 0.5 * given["sample"]} if "sample" in given else {}

    path = exports / f"{component}.onnx"
    workload = inputs.workload(component, path, lambda name: exports / f"{name}.onnx")
    workload.drive(run)
    assert len(seen) == workload.evaluations
    return seen


def test_each_component_of_a_pipeline_gets_what_it_will_see(tiny_exports: Path) -> None:
    inputs = Inputs(resolve_source("tiny-test"), PROMPTS[:2], 2)
    assert [inputs.kind(c) for c in ("text_encoder", "unet", "vae_decoder")] == ["trajectories"] * 3
    assert inputs.timesteps("unet") == inputs.timesteps("vae_decoder") == (999, 499)
    assert inputs.timesteps("text_encoder") == ()
    unet = drive(inputs, "unet", tiny_exports)
    assert [int(each["timestep"][0]) for each in unet] == [999, 499, 999, 499]
    contexts = [each["encoder_hidden_states"] for each in unet]
    np.testing.assert_array_equal(contexts[0], contexts[1])
    assert not np.array_equal(contexts[0], contexts[2])
    assert drive(inputs, "text_encoder", tiny_exports)[0]["input_ids"].shape == (1, 77)
    assert drive(inputs, "vae_decoder", tiny_exports)[0]["latent"].shape == (1, 4, 16, 16)


def test_what_stands_alone_gets_synthetic_inputs(tiny_exports: Path) -> None:
    path = tiny_exports / "unet.onnx"
    inputs = Inputs(Source("onnx", "unet", ("unet",), path), PROMPTS[:1], 2)
    assert inputs.kind("unet") == "synthetic"
    first, second = drive(inputs, "unet", tiny_exports)
    assert int(second["timestep"][0]) == 499
    assert abs(float(first["encoder_hidden_states"].std()) - 1) < 0.1
    other = Inputs(Source("onnx", "m", ("model",), path), PROMPTS[:2], 2)
    assert other.kind("model") == "synthetic"
    again = drive(Inputs(Source("onnx", "m", ("vae_decoder",), path), PROMPTS[:2], 2),
                  "vae_decoder", tiny_exports)  # fmt: skip
    assert len(again) == 2
    assert not np.array_equal(again[0]["latent"], again[1]["latent"])
