"""Latent-consistency distillation (Luo et al., 2023) of a student that need not be its teacher.

The teacher's guided prediction at x_t gives, by one DDIM step of k timesteps, a point x_(t-k) of
the same trajectory. The student, from x_t, should find the origin that its own moving average (the
target) finds from x_(t-k). EdgeFusion: the teacher is the original large model, the student starts
from BK-SDM-Adv-Tiny.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from edgefusion.models.training.consistency import (
    DdimSolver,
    consistency_function,
    guidance_embedding,
    pseudo_huber,
)
from edgefusion.models.training.moving_average import MovingAverage
from edgefusion.models.training.objective import Losses, weighted_sum
from edgefusion.runtime.errors import InputError, UsageError

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.training.batches import Batch
    from edgefusion.models.training.draws import Draws
    from edgefusion.models.training.encoders import Encoders
    from edgefusion.models.training.noise_schedule import NoiseSchedule
    from edgefusion.models.training.settings import LcmSettings

GUIDANCE_WEIGHT = "time_embedding.cond_proj.weight"
"""The one tensor that a student for guidance as an input has and its checkpoint has not."""


def guided_student(checkpoint: nn.Module, width: int) -> nn.Module:
    """A U-Net with the weights of ``checkpoint`` that takes a guidance embedding of ``width``.

    Its new matrix is zero, so that at first it computes what the checkpoint does. A checkpoint
    that takes such an embedding already is returned as it is. Raises InputError where another
    tensor than that matrix is missing or left over.
    """
    config: Any = checkpoint.config
    if config["time_cond_proj_dim"] is not None:
        if config["time_cond_proj_dim"] != width:
            raise InputError(
                f"the student takes guidance embeddings of width {config['time_cond_proj_dim']}, "
                f"the settings ask for {width}; set guidance_embedding_width to the student's."
            )
        return checkpoint
    own = {key: value for key, value in config.items() if not key.startswith("_")}
    student: nn.Module = type(checkpoint)(**{**own, "time_cond_proj_dim": width})
    missing, unexpected = student.load_state_dict(checkpoint.state_dict(), strict=False)
    if missing != [GUIDANCE_WEIGHT] or unexpected:
        raise InputError(
            f"the student's checkpoint lacks {missing[:3]} and has {unexpected[:3]} besides; "
            f"expected it to lack {GUIDANCE_WEIGHT} alone. Choose a pipeline of the Stable "
            "Diffusion family."
        )
    torch.nn.init.zeros_(student.get_parameter(GUIDANCE_WEIGHT))
    return student


class ConsistencyDistillation:
    """The ``Objective``. ``student`` is what ``guided_student`` gives where guidance is
    ``embedded``, else any U-Net on the teacher's latents and context."""

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        encoders: Encoders,
        schedule: NoiseSchedule,
        settings: LcmSettings,
    ) -> None:
        configs: list[Any] = [teacher.config, student.config]
        embeds = configs[1]["time_cond_proj_dim"] is not None
        if embeds != (settings.guidance == "embedded"):
            raise UsageError(
                f"guidance is {settings.guidance}, but the student takes "
                f"{'a' if embeds else 'no'} guidance embedding. Set guidance to "
                f"{'embedded' if embeds else 'baked or aware'}, or choose another student."
            )
        if settings.guidance_high < settings.guidance_low:
            raise UsageError(
                f"guidance_low {settings.guidance_low} is above guidance_high "
                f"{settings.guidance_high}; expected a range."
            )
        self._settings = settings
        self._schedule = schedule
        self._solver = DdimSolver(schedule, settings.solver_steps)
        self.teacher = teacher.requires_grad_(False).eval()
        self.student = student
        self.encoders = encoders
        self.average = MovingAverage(student, settings.average_decay)

    @property
    def frozen(self) -> Sequence[nn.Module]:
        """See ``Objective``."""
        return (self.teacher, self.encoders)

    def losses(self, student: Any, batch: Batch, draws: Draws) -> Losses:
        """The one term ``consistency``."""
        # 1. Noise at a start of a solver's step, and a guidance weight
        clean = self.encoders.latents(batch, draws)
        count = len(clean)
        share = self._settings.caption_dropout
        context = self.encoders.dropped(self.encoders.context(batch), draws, share)
        index = draws.integers("solver_step", count, self._solver.steps)
        start = self._solver.starts.to(index.device)[index]
        end = self._solver.ends.to(index.device)[index]
        noisy = self._schedule.add_noise(clean, draws.normal("noise", tuple(clean.shape)), start)
        low, high = self._settings.guidance_low, self._settings.guidance_high
        guidance = draws.uniform("guidance", count, low, high)
        aware = self._settings.guidance == "aware"
        if aware and not draws.coin("aware", self._settings.aware_probability):
            aware, guidance = False, torch.zeros_like(guidance)
        embedding = None
        if self._settings.guidance == "embedded":
            embedding = guidance_embedding(guidance, self._settings.guidance_embedding_width)

        # 2. The student's origin of the trajectory
        def origin(network: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            if aware:
                predicted = _guided(*self._both(network, x, t, context), guidance)
            else:
                given = network(x, t, context, timestep_cond=embedding, return_dict=False)
                predicted = given[0].float()
            return consistency_function(self._schedule, predicted, x, t)

        found = origin(student, noisy, start)

        # 3. One step of the teacher, and the target's origin from there
        with torch.no_grad():
            with_caption, without = self._both(self.teacher, noisy, start, context)
            estimates = [
                _guided(
                    estimate(with_caption, noisy, start), estimate(without, noisy, start), guidance
                )
                for estimate in (self._schedule.denoised, self._schedule.noise)
            ]
            earlier = self._solver.step(estimates[0], estimates[1], end)
            target = origin(self.average.network, earlier, end)
        loss = pseudo_huber(found, target, self._settings.huber_c)
        return weighted_sum({"consistency": loss}, {"consistency": 1.0})

    def _both(
        self, network: Any, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predictions with and without caption, in one call."""
        contexts = torch.cat([context, self.encoders.null_context(len(x))])
        both = network(torch.cat([x, x]), torch.cat([t, t]), contexts, return_dict=False)[0]
        with_caption, without = both.float().chunk(2)
        return with_caption, without


def _guided(
    with_caption: torch.Tensor, without: torch.Tensor, guidance: torch.Tensor
) -> torch.Tensor:
    """cond + w (cond - uncond) for weights w [n]."""
    w = guidance.view(-1, *[1] * (with_caption.dim() - 1))
    return with_caption + w * (with_caption - without)
