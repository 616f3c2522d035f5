"""PixArt on the simulated NPU, against diffusers' own pipeline of a small folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgefusion
from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.bundle.deployment import Deployment
from edgefusion.models.image_size import chosen_latent
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import Source, resolve_source
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.progress import silent
from tests import diffusers_pipeline
from tests.model_folders import pixart_pipeline_folder
from tests.torch_pipeline import generation, torch_network, torch_picture

PROMPT, NEGATIVE, STEPS, SEED, GUIDANCE = "b A a", "b b", 2, 3, 3.0
NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
"""Latents of random networks stay in one range: PixArt's own noise leaves 0.6 % of the sample at
the first step, which their errors are divided by."""


def checked(folder: Path) -> Source:
    return checked_source(resolve_source(str(folder)), None, silent)


def changed(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def their_picture(folder: Path, prompt: str = PROMPT, steps: int = STEPS, **arguments: Any) -> Any:
    """Bytes [h, w, 3], not yet rounded."""
    return 255 * diffusers_pipeline.their_picture(folder, prompt, steps, SEED, **arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = pixart_pipeline_folder(tmp_path_factory.mktemp("pixart"))
    changed(made / "scheduler" / "scheduler_config.json", NOISE)
    return made


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    output = folder.parent / "small.npub"
    edgefusion.compile_source(
        folder,
        output=output,
        steps=STEPS,
        guidance=GUIDANCE,
        calibration_prompts=("a b", "b a a", "b"),
    )
    return edgefusion.open_bundle(output)


def test_it_verifies(bundle: Bundle, folder: Path) -> None:
    found = edgefusion.verify(bundle, prompts=PROMPT, layers=(), source=folder)
    found.check()
    values = {row["value"] for row in found.document["values"]}
    assert {"context", "attention_mask", "noise", "latent", "image"} <= values


def test_pictures_of_the_npu_are_those_of_diffusers(bundle: Bundle, folder: Path) -> None:
    (made,) = edgefusion.draw(bundle, PROMPT, seed=SEED, negative_prompt=NEGATIVE)
    theirs = their_picture(folder, guidance_scale=GUIDANCE, negative_prompt=NEGATIVE)
    error = np.mean((np.asarray(made, np.float64) - theirs) ** 2)
    assert 10 * np.log10(255**2 / error) > 40
    # Another prompt without tokens beyond these makes another picture.
    other = their_picture(folder, guidance_scale=GUIDANCE, negative_prompt="a")
    assert np.abs(other - theirs).max() > 4


def test_attention_runs_on_the_npu(bundle: Bundle) -> None:
    count = {"text_encoder": 2, "transformer": 4}
    for component, expected in count.items():
        ops = bundle.network(component).ops
        assert sum(op.kind.name == "attention" for op in ops) == expected
    hosted = bundle.manifest.component("transformer").host_ops
    looked_up = [op.reason for op in hosted if not op.op.startswith("timestep_")]
    assert set(looked_up) == {"the NPU has no Gather"}


@pytest.mark.parametrize("latent", [(8, 8), (16, 6)])
def test_a_transformer_that_is_told_the_pictures_size(
    latent: tuple[int, int], tmp_path: Path
) -> None:
    folder = pixart_pipeline_folder(tmp_path, sample_size=128)
    source = checked(folder)
    height, width = (8 * side for side in latent)
    assert chosen_latent(source, height, width) == latent
    sized = replace(source, deployment=Deployment(latent=latent))
    theirs = their_picture(folder, height=height, width=width)
    np.testing.assert_allclose(torch_picture(sized, PROMPT, STEPS, SEED), theirs, atol=0.51)


def test_one_step_of_a_latent_consistency_student(tmp_path: Path) -> None:
    from diffusers import LCMScheduler

    folder = pixart_pipeline_folder(tmp_path)
    LCMScheduler(**NOISE).save_pretrained(folder / "scheduler")
    changed(folder / "model_index.json", {"scheduler": ["diffusers", "LCMScheduler"]})
    source = checked(folder)
    for steps in (1, 4):
        theirs = their_picture(folder, steps=steps)
        np.testing.assert_allclose(torch_picture(source, PROMPT, steps, SEED), theirs, atol=0.51)


def test_a_prompt_longer_than_the_pipeline_reads(folder: Path) -> None:
    source = checked(folder)
    prompt = " ".join(["a b b"] * 45)
    made = generation(source, lambda name: torch_network(source, name), prompt, STEPS, SEED)
    assert made.encoded["text_encoder"]["attention_mask"].sum() == 120
    np.testing.assert_allclose(made.image, their_picture(folder, prompt=prompt), atol=0.51)


def test_a_folder_by_the_transformers_name_before(folder: Path, tmp_path: Path) -> None:
    older = pixart_pipeline_folder(tmp_path)
    name = "Transformer2DModel"
    changed(older / "scheduler" / "scheduler_config.json", NOISE)
    changed(older / "model_index.json", {"transformer": ["diffusers", name]})
    changed(older / "transformer" / "config.json", {"_class_name": name})
    pictures = [torch_picture(checked(each), PROMPT, STEPS, SEED) for each in (older, folder)]
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize(
    ("part", "values", "told"),
    [
        ("transformer", {"caption_channels": 8}, "caption_channels is 8; text_encoder/config"),
        ("transformer", {"caption_channels": None}, "caption_channels is null; expected a whole"),
        (
            "transformer",
            {"in_channels": 8},
            r"out_channels is 8; expected 8 \(in_channels\)|8; vae",
        ),
        ("transformer", {"out_channels": 12}, r"out_channels is 12; expected 4 \(in_channels\)"),
        ("transformer", {"norm_type": "ada_norm_zero"}, "norm_type is 'ada_norm_zero'; expected"),
        ("transformer", {"sample_size": [8, 8]}, "sample_size is .8, 8.; expected a whole number"),
        ("text_encoder", {"pad_token_id": 1}, "pad_token_id is 1; expected 0, which tokenizer/"),
        ("text_encoder", {"pad_token_id": None}, "pad_token_id is null; expected a whole number"),
        ("vae", {"block_out_channels": [8, 8]}, "expected four levels, so that 8 pixels"),
        ("vae", {"shift_factor": 0.1}, "shift_factor is 0.1"),
    ],
)
def test_configurations_that_do_not_fit(
    part: str, values: dict[str, Any], told: str, tmp_path: Path
) -> None:
    folder = pixart_pipeline_folder(tmp_path)
    changed(folder / part / "config.json", values)
    with pytest.raises(InputError, match=told):
        checked(folder)
