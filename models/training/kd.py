"""Block-removed knowledge distillation (Kim et al., 2023): task, output and feature losses.

L = MSE(student, target) + MSE(student, teacher) + sum over features of MSE, all in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import mse_loss

from edgefusion.models.training.denoising import NoisyBatch
from edgefusion.models.training.feature_taps import FeatureTaps, check_gradient, feature_pairs
from edgefusion.models.training.moving_average import MovingAverage
from edgefusion.models.training.objective import Losses, weighted_sum

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.training.batches import Batch
    from edgefusion.models.training.draws import Draws
    from edgefusion.models.training.encoders import Encoders
    from edgefusion.models.training.noise_schedule import NoiseSchedule
    from edgefusion.models.training.settings import KdSettings


class BlockRemovedDistillation:
    """The ``Objective``. Networks are diffusers' UNet2DConditionModel, the student one with
    blocks removed from the teacher; raises InputError for a student that is not."""

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        encoders: Encoders,
        schedule: NoiseSchedule,
        settings: KdSettings,
    ) -> None:
        self._settings = settings
        self._schedule = schedule
        self.teacher = teacher.requires_grad_(False).eval()
        self.student = student
        self.encoders = encoders
        self._pairs = feature_pairs(teacher, student)
        self.average = MovingAverage(student, settings.average_decay, warm_up=True)
        # After the average was copied: its copy has no need of hooks.
        self._expected = FeatureTaps(teacher, [pair.teacher for pair in self._pairs])
        self._found = FeatureTaps(student, [pair.student for pair in self._pairs])

    @property
    def frozen(self) -> Sequence[nn.Module]:
        """See ``Objective``."""
        return (self.teacher, self.encoders)

    def losses(self, student: Any, batch: Batch, draws: Draws) -> Losses:
        """Terms ``task``, ``output``, ``feature`` and, for the log, each feature by name."""
        # 1. Encode, and add noise at random timesteps
        noisy = NoisyBatch.of(
            batch, self.encoders, self._schedule, draws, self._settings.caption_dropout
        )
        inputs = (noisy.latents, noisy.t, noisy.context)

        # 2. Both networks, with their features
        with torch.no_grad(), self._expected.catching() as expected:
            wanted = self.teacher(*inputs, return_dict=False)[0]
        with self._found.catching() as found:
            predicted = student(*inputs, return_dict=False)[0]
        if predicted.requires_grad:
            check_gradient(found)

        # 3. Losses
        features = {
            f"feature/{pair.student}": mse_loss(
                found[pair.student].float(), expected[pair.teacher].float()
            )
            for pair in self._pairs
        }
        terms = {
            "task": mse_loss(predicted.float(), noisy.target.float()),
            "output": mse_loss(predicted.float(), wanted.float()),
            "feature": torch.stack(list(features.values())).sum(),
            **features,
        }
        weights = {
            "task": self._settings.task_weight,
            "output": self._settings.output_weight,
            "feature": self._settings.feature_weight,
        }
        return weighted_sum(terms, weights)
