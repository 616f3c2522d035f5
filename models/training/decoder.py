"""Distillation of a narrower image decoder on pairs of latent and image (SnapFusion, Li et al.,
2023): the student decodes latents, of synthetic images at best, to what its teacher makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import mse_loss

from edgefusion.models.graph_modules import VaeDecoder
from edgefusion.models.training.moving_average import MovingAverage
from edgefusion.models.training.objective import Losses, weighted_sum

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.training.batches import Batch
    from edgefusion.models.training.draws import Draws
    from edgefusion.models.training.encoders import Encoders
    from edgefusion.models.training.settings import DecoderSettings


def narrower_autoencoder(teacher: Any, width: float) -> Any:
    """An AutoencoderKL with ``width`` of the teacher's channels, rounded down to whole groups of
    its norms; drawn at random. Its encoder stays so: a text-to-image pipeline has no use for it."""
    config = {key: value for key, value in teacher.config.items() if not key.startswith("_")}
    groups = config["norm_num_groups"]
    config["block_out_channels"] = tuple(
        max(1, int(channels * width) // groups) * groups
        for channels in config["block_out_channels"]
    )
    return type(teacher)(**config)


class DecoderDistillation:
    """The ``Objective``; ``encoders.codec`` is the teacher (a ``VaeCodec``) and gives latents and,
    where the settings' target is ``teacher``, images."""

    def __init__(self, student: Any, encoders: Encoders, settings: DecoderSettings) -> None:
        self._settings = settings
        self.encoders = encoders
        self.autoencoder = student
        self.student: nn.Module = VaeDecoder(student)
        self.average = MovingAverage(self.student, settings.average_decay, warm_up=True)

    def autoencoder_with(self, decoder: nn.Module) -> Any:
        """The student's AutoencoderKL with the weights of ``decoder``: the student or its
        average."""
        self.autoencoder.load_state_dict(decoder.state_dict(), strict=False)
        return self.autoencoder

    @property
    def frozen(self) -> Sequence[nn.Module]:
        """See ``Objective``."""
        return (self.encoders,)

    def losses(self, student: Any, batch: Batch, draws: Draws) -> Losses:
        """The one term ``image``, the mean squared error of pixels in [-1, 1]."""
        latents = self.encoders.latents(batch, draws)
        if self._settings.target == "image":
            target = batch["pixels"]
        else:
            with torch.no_grad():
                target = self.encoders.codec.decode(latents)
        predicted = student(latents / self.encoders.codec.scaling_factor)
        loss = mse_loss(predicted.float(), target.float())
        return weighted_sum({"image": loss}, {"image": 1.0})
