"""The three trainings of the recipe at this size: a teacher, its Tiny student, few steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefusion.models.miniature.encoded import EncodedPairs
from edgefusion.models.miniature.networks import SCHEDULER
from edgefusion.models.miniature.presets import Preset
from edgefusion.models.training.denoising import Denoising
from edgefusion.models.training.encoders import Encoders
from edgefusion.models.training.kd import BlockRemovedDistillation
from edgefusion.models.training.lcm import ConsistencyDistillation
from edgefusion.models.training.noise_schedule import NoiseSchedule
from edgefusion.models.training.objective import Objective
from edgefusion.models.training.settings import Data, KdSettings, LcmSettings, Optimizer, Run
from edgefusion.models.training.trainer import Training, train
from edgefusion.runtime.progress import Say

_DATA = Data(path="unused")
_CAPTION_DROPOUT = 0.1
_CHECKPOINT_EVERY = 500


@dataclass(frozen=True, slots=True)
class Lesson:
    """What all trainings share. ``folder`` gets the log and the checkpoints that an interrupted
    one goes on from."""

    preset: Preset
    encoders: Encoders
    data: EncodedPairs
    seed: int
    folder: Path
    say: Say

    def teach(self, network: Any, steps: int) -> Any:
        """Train ``network`` to denoise; its moving average."""
        objective = Denoising(
            network,
            self.encoders,
            NoiseSchedule.from_config(SCHEDULER),
            caption_dropout=_CAPTION_DROPOUT,
            average_decay=0.999,
        )
        return self._trained(objective, steps, learning_rate=1e-3)

    def distil(self, teacher: Any, student: Any, steps: int) -> Any:
        """Block-removed distillation; the student's moving average."""
        settings = KdSettings(
            teacher="", data=_DATA, caption_dropout=_CAPTION_DROPOUT, average_decay=0.995
        )
        schedule = NoiseSchedule.from_config(SCHEDULER)
        objective = BlockRemovedDistillation(teacher, student, self.encoders, schedule, settings)
        return self._trained(objective, steps, learning_rate=5e-4)

    def reduce_steps(self, teacher: Any, student: Any, steps: int) -> Any:
        """Latent-consistency distillation with the guidance baked in; the target network."""
        weight = self.preset.guidance - 1
        settings = LcmSettings(
            teacher="",
            student="",
            data=_DATA,
            guidance="baked",
            guidance_low=weight,
            guidance_high=weight,
        )
        schedule = NoiseSchedule.from_config(SCHEDULER)
        objective = ConsistencyDistillation(teacher, student, self.encoders, schedule, settings)
        return self._trained(objective, steps, learning_rate=3e-4)

    def _trained(self, objective: Objective, steps: int, *, learning_rate: float) -> Any:
        run = Run(
            steps=steps,
            batch_size=self.preset.batch_size,
            accumulation=1,
            seed=self.seed,
            tensorboard="off",
            checkpoint_every=_CHECKPOINT_EVERY,
            keep_checkpoints=1,
        )
        rate = Optimizer(learning_rate=learning_rate, warmup_steps=min(50, steps // 4))
        objective.student.requires_grad_(True)
        training = Training(objective, self.data, run, rate, self.folder)
        train(training, resume=True, say=self.say)
        self.encoders.to("cpu")  # where pictures are judged, wherever this trained
        return objective.average.network.to("cpu").eval()
