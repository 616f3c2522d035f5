"""The arithmetic of latent-consistency distillation, against diffusers' schedulers and pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, LatentConsistencyModelPipeline, LCMScheduler

from edgefusion.models.families.family import guidance_embedding as deployed_embedding
from edgefusion.models.training.consistency import (
    DdimSolver,
    boundary_scalings,
    consistency_function,
    guidance_embedding,
    pseudo_huber,
)
from edgefusion.models.training.noise_schedule import NoiseSchedule

CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}
PREDICTIONS = ("epsilon", "v_prediction", "sample")


def drawn(seed: int, count: int = 50) -> torch.Tensor:
    return torch.randn(count, 4, 2, 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_boundary_condition(prediction: str) -> None:
    schedule = NoiseSchedule.from_config({"prediction_type": prediction})
    x = drawn(0)
    zero = torch.zeros(50, dtype=torch.int64)
    assert torch.equal(consistency_function(schedule, 1e3 * drawn(1), x, zero), x)


def test_scalings_are_those_of_inference() -> None:
    scheduler = LCMScheduler(**CONFIG)
    for t in (0, 19, 499, 999):
        theirs = scheduler.get_scalings_for_boundary_condition_discrete(t)
        ours = boundary_scalings(torch.tensor([t]), torch.zeros(1, 1))
        assert [float(each) for each in ours] == pytest.approx([float(x) for x in theirs], rel=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_solver_is_ddim(prediction: str) -> None:
    """All fifty steps; SD's configuration ends at timestep 0, not at no noise at all."""
    schedule = NoiseSchedule.from_config({**CONFIG, "prediction_type": prediction})
    solver = DdimSolver(schedule, 50)
    scheduler = DDIMScheduler(**CONFIG, prediction_type=prediction, set_alpha_to_one=False)
    scheduler.set_timesteps(50)
    x, predicted, start = drawn(2), drawn(3), solver.starts
    ours = solver.step(
        schedule.denoised(predicted, x, start), schedule.noise(predicted, x, start), solver.ends
    )
    for i, t in enumerate(start.tolist()):
        theirs = scheduler.step(predicted[i], t, x[i], return_dict=False)[0]
        torch.testing.assert_close(ours[i], theirs, rtol=1e-5, atol=1e-5)


def test_timesteps() -> None:
    solver = DdimSolver(NoiseSchedule.from_config(CONFIG), 50)
    assert solver.starts.tolist() == list(range(19, 1000, 20))
    assert solver.ends.tolist() == [0, *range(19, 980, 20)]


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, [999]), (2, [999, 499]), (4, [999, 759, 499, 259])]
)
def test_inference_uses_timesteps_that_were_distilled(steps: int, expected: list[int]) -> None:
    scheduler = LCMScheduler(**CONFIG)
    scheduler.set_timesteps(steps, original_inference_steps=50)
    assert scheduler.timesteps.tolist() == expected
    solver = DdimSolver(NoiseSchedule.from_config(CONFIG), 50)
    assert set(expected) <= set(solver.starts.tolist())


@pytest.mark.parametrize("width", [256, 17])
def test_guidance_embedding(width: int) -> None:
    w = torch.tensor([0.0, 6.5, 14.0])
    embed = LatentConsistencyModelPipeline.get_guidance_scale_embedding
    theirs = embed(None, w, embedding_dim=width)
    torch.testing.assert_close(guidance_embedding(w, width), theirs, rtol=1e-4, atol=2e-3)
    deployed = deployed_embedding(7.5, width)
    np.testing.assert_allclose(guidance_embedding(w[1:2], width).numpy(), deployed, atol=2e-3)


def test_pseudo_huber() -> None:
    a, b = drawn(4).double(), drawn(5).double()
    expected = float(np.mean(np.sqrt((a - b).numpy() ** 2 + 0.001**2) - 0.001))
    assert float(pseudo_huber(a, b, 0.001)) == pytest.approx(expected, rel=1e-5)
    assert float(pseudo_huber(a, a, 0.001)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_schedule(prediction: str) -> None:
    schedule = NoiseSchedule.from_config({**CONFIG, "prediction_type": prediction})
    scheduler = DDPMScheduler(**CONFIG)
    clean, noise = drawn(6), drawn(7)
    t = torch.arange(0, 1000, 20)
    noisy = schedule.add_noise(clean, noise, t)
    torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, t))
    target = schedule.target(clean, noise, t)
    if prediction == "v_prediction":
        torch.testing.assert_close(target, scheduler.get_velocity(clean, noise, t))
    torch.testing.assert_close(schedule.denoised(target, noisy, t), clean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(schedule.noise(target, noisy, t), noise, rtol=1e-3, atol=1e-4)
