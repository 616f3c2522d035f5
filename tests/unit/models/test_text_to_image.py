from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgefusion.models.text_to_image import (
    Sampling,
    as_pixels,
    denoise,
    generate,
    guidance_embedding,
    lcm_scheduler,
)
from edgefusion.runtime.errors import InputError, UsageError

Arrays = Mapping[str, np.ndarray[Any, Any]]
SAMPLING = Sampling((1, 4, 2, 2), {}, 0.5, 0)
CONTEXT = np.zeros((1, 3, 8), np.float32)


class Networks:
    """Tiny stand-ins that note what they are given."""

    def __init__(self, noise: float = 0.1) -> None:
        self.seen: list[Arrays] = []
        self.noise = noise

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
    ids = np.ones((1, 3), np.int64)
    made = generate(networks, SAMPLING, ids, steps=steps)
    assert [step.timestep for step in made.steps] == timesteps
    assert [int(seen["timestep"][0]) for seen in networks.seen] == timesteps
    assert made.image.shape == (4, 2, 3)
    assert made.image.dtype == np.uint8
    assert float(made.context[0, 0, 0]) == 3.0


def test_noise_depends_on_the_seed_alone() -> None:
    def latents(seed: int) -> list[np.ndarray[Any, Any]]:
        return [s.latent for s in denoise(Networks().unet, SAMPLING, CONTEXT, seed=seed, steps=4)]

    for one, again in zip(latents(3), latents(3), strict=True):
        np.testing.assert_array_equal(one, again)
    assert not np.array_equal(latents(3)[0], latents(4)[0])


def test_one_step_is_the_formula() -> None:
    """With c_skip about 0, c_out about 1 (s = 9990): x0 = (x - sqrt(1 - a) eps) / sqrt(a)."""
    (step,) = denoise(Networks(0.25).unet, SAMPLING, CONTEXT, steps=1)
    alpha = float(lcm_scheduler({}).alphas_cumprod[999])
    expected = (step.inputs["sample"] - np.sqrt(1 - alpha) * 0.25) / np.sqrt(alpha)
    np.testing.assert_allclose(step.latent, expected, rtol=1e-5)


def test_guidance_is_embedded_where_the_network_takes_it() -> None:
    networks = Networks()
    denoise(networks.unet, Sampling((1, 4, 2, 2), {}, 0.5, 6), CONTEXT, steps=1)
    assert networks.seen[0]["timestep_cond"].shape == (1, 6)
    np.testing.assert_allclose(guidance_embedding(1.0, 6)[0], [0, 0, 0, 1, 1, 1])
    assert "timestep_cond" not in Networks().__dict__


def test_requests_and_values_are_checked() -> None:
    ids = np.ones((1, 3), np.int64)
    with pytest.raises(UsageError, match="one of 1, 2, 4"):
        generate(Networks(), SAMPLING, ids, steps=3)
    with pytest.raises(InputError, match="NaN or infinite"):
        generate(Networks(np.nan), SAMPLING, ids, steps=1)
    with pytest.raises(InputError, match="LCMScheduler"):
        lcm_scheduler({"beta_schedule": "a misspelt one"})


def test_pixels() -> None:
    image = np.array([-1.0, 0.0, 1.0, 7.0], np.float32).reshape(1, 1, 2, 2)
    assert as_pixels(np.repeat(image, 3, axis=1))[..., 0].tolist() == [[0, 128], [255, 255]]
