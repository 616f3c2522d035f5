"""The losses, against the same arithmetic done with diffusers' schedulers one sample at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler, UNet2DConditionModel
from torch.nn.functional import mse_loss

from edgefusion.models.noise_scheduler import STABLE_DIFFUSION_SCHEDULE
from edgefusion.models.training.denoising import Denoising
from edgefusion.models.training.draws import Draws
from edgefusion.models.training.encoders import Encoders
from edgefusion.models.training.kd import BlockRemovedDistillation
from edgefusion.models.training.lcm import (
    GUIDANCE_WEIGHT,
    ConsistencyDistillation,
    guided_student,
)
from edgefusion.models.training.settings import KdSettings, LcmSettings
from edgefusion.runtime.errors import InputError, UsageError
from tests.training_cases import DATA, SCHEDULE, batch, encoders, student_unet, teacher_unet

DRAWS = Draws(0, 0)
CONFIG = {**STABLE_DIFFUSION_SCHEDULE, "set_alpha_to_one": False}


def kd(student: Any, **settings: Any) -> BlockRemovedDistillation:
    chosen = KdSettings(teacher="unused", data=DATA, **settings)
    return BlockRemovedDistillation(teacher_unet(), student, encoders(), SCHEDULE, chosen)


def test_a_student_that_is_its_teacher_has_the_task_alone_to_learn() -> None:
    same = kd(teacher_unet().eval())
    losses = same.losses(same.student, batch(), DRAWS)
    assert float(losses.terms["output"]) == 0.0
    assert float(losses.terms["feature"]) == 0.0
    assert float(losses.terms["task"]) > 0.5
    assert float(losses.total.detach()) == float(losses.terms["task"])


def test_kd_losses() -> None:
    student = student_unet(teacher_unet())
    objective = kd(student, task_weight=0.5, output_weight=2.0, feature_weight=0.25)
    losses = objective.losses(student, batch(), DRAWS)
    clean, context = batch()["latents"], batch()["context"]
    noise, t = DRAWS.normal("noise", tuple(clean.shape)), DRAWS.integers("timestep", 2, 1000)
    scheduler = DDIMScheduler(**CONFIG)
    noisy = scheduler.add_noise(clean, noise, t)
    ours = student(noisy, t, context).sample
    theirs = teacher_unet()(noisy, t, context).sample
    terms = losses.terms
    torch.testing.assert_close(terms["task"], mse_loss(ours, noise).detach())
    torch.testing.assert_close(terms["output"], mse_loss(ours, theirs).detach())
    parts = [value for name, value in terms.items() if name.startswith("feature/")]
    assert len(parts) == 4
    assert all(float(part) > 0 for part in parts[-2:])
    torch.testing.assert_close(terms["feature"], torch.stack(parts).sum())
    total = 0.5 * terms["task"] + 2 * terms["output"] + 0.25 * terms["feature"]
    torch.testing.assert_close(losses.total.detach(), total)


def test_plain_training_is_the_task() -> None:
    student = student_unet(teacher_unet())
    plain = Denoising(student, encoders(), SCHEDULE, caption_dropout=0.0)
    task = kd(student).losses(student, batch(), DRAWS).terms["task"]
    assert torch.equal(plain.losses(student, batch(), DRAWS).total.detach(), task)


def test_losses_are_float32_whatever_the_networks_are() -> None:
    student = student_unet(teacher_unet()).bfloat16()
    objective = kd(student)
    objective.teacher.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        losses = objective.losses(student, batch(), DRAWS)
    assert losses.total.dtype == torch.float32
    assert all(term.dtype == torch.float32 for term in losses.terms.values())


def test_caption_dropout_is_honoured() -> None:
    context = torch.ones(1000, 3, 8)
    null = encoders()
    dropped = null.dropped(context, DRAWS, 0.3)[:, 0, 0]
    assert 0.25 < float((dropped == 0).float().mean()) < 0.35
    assert torch.equal(null.dropped(context, DRAWS, 0.0), context)
    assert float(null.dropped(context, DRAWS, 1.0).abs().max()) == 0.0


def test_encoders_name_what_the_data_lack() -> None:
    with pytest.raises(InputError, match=r"have images; expected latents, or pixels"):
        encoders().latents({"images": torch.zeros(1)}, DRAWS)
    with pytest.raises(InputError, match="expected context, or input_ids"):
        encoders().context({"latents": torch.zeros(1)})


def test_encoders_read_ids() -> None:
    embedding = torch.nn.Embedding(10, 8)
    made = Encoders(embedding, None, torch.zeros(1, 3, dtype=torch.int64))
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(made.context({"input_ids": ids}), embedding(ids).detach())
    assert made.null_context(5).shape == (5, 3, 8)


def lcm(student: Any, **settings: Any) -> ConsistencyDistillation:
    chosen = LcmSettings(
        teacher="unused", student="unused", data=DATA, guidance_embedding_width=16, **settings
    )
    return ConsistencyDistillation(teacher_unet(), student, encoders(), SCHEDULE, chosen)


def trained(student: Any) -> Any:
    """With a guidance matrix that does something."""
    torch.nn.init.normal_(student.get_parameter(GUIDANCE_WEIGHT))
    return student


@pytest.mark.parametrize("guidance", ["embedded", "baked", "aware"])
def test_consistency_loss(guidance: Any) -> None:
    """One sample at a time, by DDIMScheduler.step and LCMScheduler's scalings."""
    plain = student_unet(teacher_unet())
    student = trained(guided_student(plain, 16)) if guidance == "embedded" else plain
    objective = lcm(student, guidance=guidance, aware_probability=1.0)
    with torch.no_grad():  # the target is another network than the student
        for parameter in objective.average.network.parameters():
            parameter.mul_(1.1)
    loss = objective.losses(student, batch(), DRAWS).total

    ddim, consistency = DDIMScheduler(**CONFIG), LCMScheduler(**STABLE_DIFFUSION_SCHEDULE)
    ddim.set_timesteps(50)
    teacher, target_network = teacher_unet(), objective.average.network
    clean, context = batch()["latents"], batch()["context"]
    noise = DRAWS.normal("noise", tuple(clean.shape))
    w = DRAWS.uniform("guidance", 2, 5.0, 15.0)
    null = torch.zeros(1, 3, 8)
    terms = []
    for i, index in enumerate(DRAWS.integers("solver_step", 2, 50).tolist()):
        start, end = 20 * index + 19, max(20 * index - 1, 0)
        x = ddim.add_noise(clean[i : i + 1], noise[i : i + 1], torch.tensor([start]))

        def guided(network: Any, x: torch.Tensor, t: int, i: int = i) -> torch.Tensor:
            cond = network(x, t, context[i : i + 1]).sample
            prediction: torch.Tensor = cond + w[i] * (cond - network(x, t, null).sample)
            return prediction

        def origin(network: Any, x: torch.Tensor, t: int, i: int = i) -> torch.Tensor:
            if guidance == "aware":
                predicted = guided(network, x, t)
            else:
                angles = 1000 * w[i] * 10000 ** -(torch.arange(8) / 7)
                embedding = torch.cat([angles.sin(), angles.cos()])[None]
                cond = embedding if guidance == "embedded" else None
                predicted = network(x, t, context[i : i + 1], timestep_cond=cond).sample
            skip, out = consistency.get_scalings_for_boundary_condition_discrete(t)
            alpha = ddim.alphas_cumprod[t]
            clean_estimate = (x - (1 - alpha).sqrt() * predicted) / alpha.sqrt()
            found: torch.Tensor = skip * x + out * clean_estimate
            return found

        earlier = ddim.step(guided(teacher, x, start), start, x, return_dict=False)[0]
        difference = origin(student, x, start) - origin(target_network, earlier, end)
        terms.append(((difference**2 + 1e-6).sqrt() - 1e-3).mean())
    torch.testing.assert_close(loss, torch.stack(terms).mean(), rtol=2e-4, atol=1e-6)


def test_awareness_is_drawn() -> None:
    """Never aware: no guidance at all, whatever its range is."""
    student = student_unet(teacher_unet())
    ranges = ((5.0, 15.0), (0.0, 1.0))
    losses = [
        lcm(
            student, guidance="aware", aware_probability=0.0, guidance_low=low, guidance_high=high
        ).losses(student, batch(), DRAWS)
        for low, high in ranges
    ]
    assert torch.equal(losses[0].total, losses[1].total)


def test_gradient_reaches_the_student_and_nothing_else() -> None:
    student = guided_student(student_unet(teacher_unet()), 16)
    objective = lcm(student)
    objective.losses(student, batch(), DRAWS).total.backward()
    assert all(p.grad is not None for p in student.parameters())
    assert bool(student.get_parameter(GUIDANCE_WEIGHT).grad.abs().sum() > 0)
    for network in (objective.teacher, objective.average.network):
        assert all(p.grad is None for p in network.parameters())


def test_guided_student_begins_as_its_checkpoint() -> None:
    checkpoint = student_unet(teacher_unet())
    student: Any = guided_student(checkpoint, 16)
    x, t, context = batch()["latents"], torch.tensor([19, 999]), batch()["context"]
    embedding = torch.randn(2, 16)
    with torch.no_grad():
        guided = student(x, t, context, timestep_cond=embedding).sample
        assert torch.equal(guided, checkpoint(x, t, context).sample)
    assert set(student.state_dict()) - set(checkpoint.state_dict()) == {GUIDANCE_WEIGHT}
    assert guided_student(student, 16) is student
    with pytest.raises(InputError, match="width 16, the settings ask for 32"):
        guided_student(student, 32)


def test_student_with_other_tensors_is_refused() -> None:
    class Other(UNet2DConditionModel):  # type: ignore[misc]  # diffusers is not followed
        def state_dict(self, *args: Any, **options: Any) -> Any:
            state = super().state_dict(*args, **options)
            return {
                **{k: v for k, v in state.items() if k != "conv_in.bias"},
                "extra": torch.ones(1),
            }

    checkpoint = Other(**{k: v for k, v in teacher_unet().config.items() if k[0] != "_"})
    with pytest.raises(InputError, match=r"conv_in\.bias.*extra"):
        guided_student(checkpoint, 16)


def test_contradictions_are_refused() -> None:
    plain = student_unet(teacher_unet())
    with pytest.raises(UsageError, match="takes no guidance embedding"):
        lcm(plain, guidance="embedded")
    with pytest.raises(UsageError, match="takes a guidance embedding"):
        lcm(guided_student(plain, 16), guidance="aware")
    with pytest.raises(UsageError, match="expected a range"):
        lcm(plain, guidance="baked", guidance_low=9.0, guidance_high=5.0)
    with pytest.raises(InputError, match="channels"):
        kd(teacher_unet(block_out_channels=(8, 24, 24)))
