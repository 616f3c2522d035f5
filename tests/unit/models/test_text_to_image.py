from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from edgefusion.models.families.family import guidance_embedding
from edgefusion.models.families.registry import STABLE_DIFFUSION
from edgefusion.models.noise_scheduler import PREDICTION_TYPES, NoiseScheduler
from edgefusion.models.text_to_image import Sampling, as_pixels, denoise, generate
from edgefusion.runtime.errors import InputError, UsageError

Arrays = Mapping[str, np.ndarray[Any, Any]]
SHAPES = {"sample": (1, 4, 2, 2)}
SAMPLING = Sampling(SHAPES, NoiseScheduler(), 0.5)
CONTEXT = np.zeros((1, 3, 8), np.float32)
CONDITIONS = {"encoder_hidden_states": CONTEXT}
IDS = {"text_encoder": np.ones((1, 3), np.int64)}


class Networks:
    """Tiny stand-ins that note what they are given."""

    def __init__(self, noise: float = 0.1) -> None:
        self.seen: list[Arrays] = []
        self.noise = noise

    def __call__(self, component: str) -> Any:
        return getattr(self, component)

    def text_encoder(self, inputs: Arrays) -> Arrays:
        return {"hidden_states": CONTEXT + inputs["input_ids"].sum()}

    def unet(self, inputs: Arrays) -> Arrays:
        self.seen.append(inputs)
        return {"noise_pred": np.full_like(inputs["sample"], self.noise)}

    def vae_decoder(self, inputs: Arrays) -> Arrays:
        return {"image": np.repeat(inputs["latent"][:, :3], 2, axis=2)}


@pytest.mark.parametrize(
    ("steps", "timesteps"), [(1, [999]), (2, [999, 499]), (4, [999, 759, 499, 259])]
)
def test_timesteps_are_those_of_latent_consistency_models(steps: int, timesteps: list[int]) -> None:
    networks = Networks()
    made = generate(networks, SAMPLING, IDS, steps=steps)
    assert [step.timestep for step in made.steps] == timesteps
    assert [int(seen["timestep"][0]) for seen in networks.seen] == timesteps
    assert made.image.shape == (4, 2, 3)
    assert made.image.dtype == np.uint8
    assert float(made.encoded["text_encoder"]["hidden_states"][0, 0, 0]) == 3.0


def test_noise_depends_on_the_seed_alone() -> None:
    def latents(seed: int) -> list[np.ndarray[Any, Any]]:
        return [
            s.latent for s in denoise(Networks().unet, SAMPLING, CONDITIONS, seed=seed, steps=4)
        ]

    for one, again in zip(latents(3), latents(3), strict=True):
        np.testing.assert_array_equal(one, again)
    assert not np.array_equal(latents(3)[0], latents(4)[0])


def test_one_step_is_the_formula() -> None:
    """With c_skip about 0, c_out about 1 (s = 9990): x0 = (x - sqrt(1 - a) eps) / sqrt(a)."""
    (step,) = denoise(Networks(0.25).unet, SAMPLING, CONDITIONS, steps=1)
    alpha = float(NoiseScheduler().make().alphas_cumprod[999])
    expected = (step.inputs["sample"] - np.sqrt(1 - alpha) * 0.25) / np.sqrt(alpha)
    np.testing.assert_allclose(step.latent, expected, rtol=1e-5)


def test_guidance_is_embedded_where_the_network_takes_it() -> None:
    networks = Networks()
    sampling = Sampling(SHAPES | {"timestep_cond": (1, 6)}, NoiseScheduler(), 0.5)
    generate(networks, sampling, IDS, steps=1)
    np.testing.assert_array_equal(networks.seen[0]["timestep_cond"], guidance_embedding(7.5, 6))
    np.testing.assert_allclose(guidance_embedding(1.0, 6)[0], [0, 0, 0, 1, 1, 1])
    assert STABLE_DIFFUSION.conditions({}, SHAPES) == {}


def test_requests_and_values_are_checked() -> None:
    for steps in (0, 51, 10**12):
        with pytest.raises(UsageError, match="1 to 50"):
            generate(Networks(), SAMPLING, IDS, steps=steps)
    with pytest.raises(UsageError, match="--seed is 18446744073709551616"):
        generate(Networks(), SAMPLING, IDS, seed=2**64, steps=1)
    tables = replace(SAMPLING, tabulated=(999, 759, 499, 259))
    with pytest.raises(UsageError, match=r"timestep 679, 339; expected one of 1, 2, 4"):
        generate(Networks(), tables, IDS, steps=3)
    assert len(generate(Networks(), SAMPLING, IDS, steps=3).steps) == 3
    with pytest.raises(InputError, match="NaN or infinite"):
        generate(Networks(np.nan), SAMPLING, IDS, steps=1)


SCHEDULERS = ("DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "LCMScheduler")


@pytest.mark.parametrize("prediction", PREDICTION_TYPES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_are_replaced_as_their_library_replaces_them(
    name: str, prediction: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By ``LCMScheduler.from_config(pipe.scheduler.config)``, step by step, and without a word."""
    made_by_hand = getattr(diffusers, name)(
        beta_start=0.001, beta_end=0.01, beta_schedule="linear", prediction_type=prediction
    )
    saved = json.loads(made_by_hand.to_json_string())
    theirs = getattr(diffusers, name).from_config(saved)
    sampling = replace(SAMPLING, scheduler=NoiseScheduler(config=saved))
    with caplog.at_level(logging.WARNING, "diffusers"):
        found = denoise(Networks(0.25).unet, sampling, CONDITIONS, seed=5, steps=4)
    assert not caplog.records
    scheduler = diffusers.LCMScheduler.from_config(theirs.config)
    scheduler.set_timesteps(4)
    generator = torch.Generator().manual_seed(5)
    sample = torch.randn(SAMPLING.latent_shape, generator=generator)
    for step, timestep in zip(found, scheduler.timesteps, strict=True):
        made = scheduler.step(torch.full_like(sample, 0.25), timestep, sample, generator=generator)
        sample = made.prev_sample
        np.testing.assert_array_equal(step.latent, made.denoised)


def test_pixels() -> None:
    image = np.array([-1.0, 0.0, 1.0, 7.0], np.float32).reshape(1, 1, 2, 2)
    assert as_pixels(np.repeat(image, 3, axis=1))[..., 0].tolist() == [[0, 128], [255, 255]]
