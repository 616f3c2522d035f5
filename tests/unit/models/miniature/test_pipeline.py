"""The exported folder, drawn from by diffusers itself, against how the experiment draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from edgefusion.models.checkpoint import quiet_libraries
from edgefusion.models.miniature.codec import (
    PATCH_PX,
    SCALING_FACTOR,
    PixelCodec,
    untrained_autoencoder,
)
from edgefusion.models.miniature.evaluation import few_step_sampler
from edgefusion.models.miniature.networks import LATENT_SHAPE, teacher_unet, tiny_unet
from edgefusion.models.miniature.pairs import token_ids
from edgefusion.models.miniature.pipeline import as_stored, write_miniature
from edgefusion.models.miniature.shapes import SIDE_PX, told
from edgefusion.models.miniature.text_encoder import untrained
from edgefusion.models.source import resolve_source
from edgefusion.models.training.encoders import Encoders
from edgefusion.models.trajectories import chosen_prompts

PROMPT = "a small red circle on the left on blue"


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    torch.manual_seed(0)
    unet = tiny_unet(teacher_unet((16, 32, 32), 0))
    found = {
        "unet": as_stored(unet),
        "text_encoder": untrained(0),
        "autoencoder": as_stored(untrained_autoencoder((24, 32, 64), 0)),
    }
    return {name: network.requires_grad_(False).eval() for name, network in found.items()}


@pytest.fixture(scope="module")
def folder(parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("miniature") / "pipeline"
    write_miniature(place, **parts, facts={"U-Net weights": "some"})
    return place


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_diffusers_draws_the_same(folder: Path, parts: dict[str, Any], steps: int) -> None:
    with quiet_libraries():
        pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=1.0,
        output_type="np",
        generator=torch.Generator().manual_seed(5),
    ).images
    encoders = Encoders(parts["text_encoder"], PixelCodec(), token_ids("")[None])
    context = encoders.encode(token_ids(PROMPT)[None])
    null = encoders.null_context(1)
    latents = few_step_sampler().sample(parts["unet"], context, null, LATENT_SHAPE, steps, 5)
    ours = parts["autoencoder"].decoder(latents / SCALING_FACTOR)
    np.testing.assert_allclose(
        images[0], ((ours + 1) / 2).clamp(0, 1)[0].permute(1, 2, 0).numpy(), atol=2e-5
    )


def test_the_compiler_finds_all_components_and_prompts(folder: Path) -> None:
    source = resolve_source(str(folder))
    assert all(told(prompt) for prompt in chosen_prompts(16, source))
    assert source.components == ("text_encoder", "unet", "vae_decoder")
    for component in source.components:
        source.load(component)


@pytest.mark.parametrize(
    ("component", "dtype"),
    [("unet", torch.float16), ("vae", torch.float16), ("text_encoder", torch.float32)],
)
def test_weights_are_stored_in(folder: Path, component: str, dtype: torch.dtype) -> None:
    (file,) = (folder / component).glob("*.safetensors")
    assert {weight.dtype for weight in load_file(file).values()} == {dtype}


def test_the_card_tells_what_it_is(folder: Path, parts: dict[str, Any]) -> None:
    card = (folder / "README.md").read_text()
    assert "| U-Net weights | some |" in card
    write_miniature(folder, **parts, facts={})
    assert "some" not in (folder / "README.md").read_text()
    assert PATCH_PX * LATENT_SHAPE[1] == SIDE_PX
