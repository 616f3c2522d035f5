"""Latents to look at are those that deployment would make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from edgefusion.models.families.registry import STABLE_DIFFUSION
from edgefusion.models.noise_scheduler import NoiseScheduler
from edgefusion.models.text_to_image import Sampling, denoise
from edgefusion.models.training.lcm import GUIDANCE_WEIGHT, guided_student
from edgefusion.models.training.sampling import Sampler
from tests.training_cases import batch, student_unet, teacher_unet

SHAPE = (4, 8, 8)
NULL = torch.zeros(1, 3, 8)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_consistency_sampling_is_that_of_a_bundle(steps: int) -> None:
    student: Any = guided_student(student_unet(teacher_unet()), 16).eval()
    torch.nn.init.normal_(student.get_parameter(GUIDANCE_WEIGHT))
    context = batch()["context"][:1]

    def network(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        given = {name: torch.from_numpy(np.asarray(value)) for name, value in inputs.items()}
        with torch.no_grad():
            return {"noise_pred": student(**given).sample.numpy()}

    shapes = {"sample": (1, *SHAPE), "timestep_cond": (1, 16)}
    conditions = STABLE_DIFFUSION.drawn_conditions(
        {"text_encoder": {"hidden_states": context.numpy()}}, shapes, np.random.default_rng()
    )
    deployed = denoise(network, Sampling(shapes, NoiseScheduler(), 1.0), conditions, steps=steps)
    made = Sampler({}, consistency=True).sample(student, context, NULL, SHAPE, steps, seed=0)
    np.testing.assert_allclose(made.numpy(), deployed[-1].latent, atol=2e-3)


def test_samples_depend_on_their_own_seed_alone() -> None:
    teacher, context = teacher_unet().eval(), batch()["context"]
    sampler = Sampler({}, consistency=False)
    both = sampler.sample(teacher, context, NULL.expand(2, -1, -1), SHAPE, 2, seed=5)
    second = sampler.sample(teacher, context[1:], NULL, SHAPE, 2, seed=6)
    torch.testing.assert_close(both[1:], second, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("guidance", "evaluated"), [(1.0, 1), (7.5, 2)])
def test_guidance_costs_a_second_evaluation(guidance: float, evaluated: int) -> None:
    teacher = teacher_unet().eval()
    sizes = []
    teacher.conv_in.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    context = batch()["context"][:1]
    Sampler({}, False, guidance).sample(teacher, context, NULL, SHAPE, 3, seed=0)
    assert sizes == [evaluated] * 3
