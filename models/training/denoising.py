"""Plain training of a text-to-image U-Net: predict what a noise schedule asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.nn.functional import mse_loss

from edgefusion.models.training.moving_average import MovingAverage
from edgefusion.models.training.objective import Losses, weighted_sum

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgefusion.models.training.batches import Batch
    from edgefusion.models.training.draws import Draws
    from edgefusion.models.training.encoders import Encoders
    from edgefusion.models.training.noise_schedule import NoiseSchedule


@dataclass(frozen=True, slots=True)
class NoisyBatch:
    """What a network is given, ``latents`` at timesteps ``t`` [n] with ``context``, and the
    ``target`` that it should predict."""

    latents: torch.Tensor
    t: torch.Tensor
    context: torch.Tensor
    target: torch.Tensor

    @classmethod
    def of(
        cls,
        batch: Batch,
        encoders: Encoders,
        schedule: NoiseSchedule,
        draws: Draws,
        caption_dropout: float,
    ) -> NoisyBatch:
        """Encode a batch, drop captions, and add noise at timesteps drawn uniformly."""
        clean = encoders.latents(batch, draws)
        context = encoders.dropped(encoders.context(batch), draws, caption_dropout)
        noise = draws.normal("noise", tuple(clean.shape))
        t = draws.integers("timestep", len(clean), schedule.timesteps)
        noisy = schedule.add_noise(clean, noise, t)
        return cls(noisy, t, context, schedule.target(clean, noise, t))


class Denoising:
    """The ``Objective`` of a U-Net without a teacher."""

    def __init__(
        self,
        student: nn.Module,
        encoders: Encoders,
        schedule: NoiseSchedule,
        *,
        caption_dropout: float = 0.1,
        average_decay: float = 0.9999,
    ) -> None:
        self.student = student
        self.encoders = encoders
        self.average = MovingAverage(student, average_decay, warm_up=True)
        self._schedule = schedule
        self._caption_dropout = caption_dropout

    @property
    def frozen(self) -> Sequence[nn.Module]:
        """See ``Objective``."""
        return (self.encoders,)

    def losses(self, student: Any, batch: Batch, draws: Draws) -> Losses:
        """The one term ``task``."""
        noisy = NoisyBatch.of(batch, self.encoders, self._schedule, draws, self._caption_dropout)
        predicted = student(noisy.latents, noisy.t, noisy.context, return_dict=False)[0]
        task = mse_loss(predicted.float(), noisy.target.float())
        return weighted_sum({"task": task}, {"task": 1.0})
