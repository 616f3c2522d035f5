"""How well a U-Net draws what it is told: pictures of prompts, judged one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgefusion.models.miniature.classifier import AttributeNet, agreement
from edgefusion.models.miniature.codec import PixelCodec
from edgefusion.models.miniature.networks import LATENT_SHAPE, SCHEDULER
from edgefusion.models.miniature.pairs import token_ids
from edgefusion.models.miniature.shapes import caption, generator, random_scene
from edgefusion.models.training.encoders import Encoders
from edgefusion.models.training.sampling import Sampler

_BATCH = 64
PROMPT_SEED = 900_001
"""Of no training data."""
NOISE_SEED = 0


def prompts(count: int) -> list[str]:
    """Whole captions of different scenes, the same for all that is compared."""
    found: dict[str, None] = {}
    index = 0
    while len(found) < count:
        found[caption(random_scene(generator(PROMPT_SEED, index)))] = None
        index += 1
    return list(found)


@dataclass(frozen=True, slots=True)
class Judge:
    """Draws ``prompts`` with a network and compares what a classifier sees with what was told."""

    encoders: Encoders
    classifier: AttributeNet
    prompts: Sequence[str]

    def scores(self, network: Any, sampler: Sampler, steps: int) -> list[float]:
        """For each prompt the share of its attributes that the picture shows."""
        return self.judged(self.pictures(network, sampler, steps))

    def judged(self, pixels: torch.Tensor) -> list[float]:
        """The same of pictures [n, 3, 32, 32] of the first n prompts."""
        shown: list[float] = agreement(
            self.classifier, pixels, self.prompts[: len(pixels)]
        ).tolist()
        return shown

    def pictures(self, network: Any, sampler: Sampler, steps: int) -> torch.Tensor:
        """[n, 3, 32, 32] in [-1, 1]; the noise of prompt i is that of seed i."""
        network.eval()
        drawn = []
        for first in range(0, len(self.prompts), _BATCH):
            part = self.prompts[first : first + _BATCH]
            context = self.encoders.encode(torch.stack([token_ids(text) for text in part]))
            null = self.encoders.null_context(len(part))
            drawn.append(
                sampler.sample(network, context, null, LATENT_SHAPE, steps, NOISE_SEED + first)
            )
        return PixelCodec().decode(torch.cat(drawn)).clamp(-1, 1)


def many_step_sampler(guidance: float) -> Sampler:
    """DDIM, for teachers and students of block removal."""
    return Sampler(SCHEDULER, consistency=False, guidance_scale=guidance)


def few_step_sampler() -> Sampler:
    """For students of latent-consistency distillation, whose guidance is distilled in."""
    return Sampler(SCHEDULER, consistency=True, guidance_scale=1.0)


def mean(scores: Sequence[float]) -> float:
    """Of the prompts' scores."""
    return float(np.mean(scores))
