"""How well a U-Net draws what it is told: pictures of prompts, judged one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from edgefusion.models.miniature.classifier import AttributeNet, agreement
from edgefusion.models.miniature.distance import Gaussian, distances
from edgefusion.models.miniature.networks import LATENT_SHAPE, SCHEDULER
from edgefusion.models.miniature.pairs import token_ids
from edgefusion.models.miniature.shapes import (
    Scene,
    caption,
    generator,
    picture,
    random_scene,
    told,
)
from edgefusion.models.training.encoders import Encoders
from edgefusion.models.training.sampling import Sampler

_BATCH = 64
PROMPT_SEED = 900_001
"""Of no training data."""
NOISE_SEED = 0
_REFERENCE_SEED, _TRUE_PER_PROMPT = 900_002, 8


def prompts(count: int) -> list[str]:
    """Whole captions of different scenes, the same for all that is compared."""
    found: dict[str, None] = {}
    index = 0
    while len(found) < count:
        found[caption(random_scene(generator(PROMPT_SEED, index)))] = None
        index += 1
    return list(found)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of the pictures of a network: ``scores``, for each prompt the share of its attributes that
    the picture shows, and ``distances``, of all and of resamples (``distance.distances``)."""

    scores: Sequence[float]
    distances: Sequence[float]


@dataclass(frozen=True, slots=True)
class Judge:
    """Draws ``prompts`` with a network and compares what ``classifier`` sees with what was told,
    and the pictures' distribution with that of true ones."""

    encoders: Encoders
    classifier: AttributeNet
    prompts: Sequence[str]

    def judgement(self, pixels: torch.Tensor) -> Judgement:
        """Of pictures [n, 3, 32, 32] of the prompts."""
        shown: list[float] = agreement(self.classifier, pixels, self.prompts).tolist()
        reference = _reference(self.classifier, tuple(self.prompts))
        return Judgement(shown, distances(self.classifier.features(pixels), reference))

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
        pixels: torch.Tensor = self.encoders.codec.decode(torch.cat(drawn))
        return pixels.clamp(-1, 1)


@cache
def _reference(classifier: AttributeNet, texts: tuple[str, ...]) -> Gaussian:
    return Gaussian.of(classifier.features(true_pictures(texts)))


def _true_picture(text: str, number: int) -> torch.Tensor:
    """[3, 32, 32] in [-1, 1]; their own draws of place, size and colour tell numbers apart."""
    rng = generator(_REFERENCE_SEED, number)
    return torch.from_numpy(picture(Scene(**told(text)), rng)).permute(2, 0, 1).float() / 127.5 - 1


def true_pictures(texts: Sequence[str]) -> torch.Tensor:
    """[8 n, 3, 32, 32] in [-1, 1]: some of each of n whole captions."""
    return torch.stack(
        [
            _true_picture(text, index * _TRUE_PER_PROMPT + number)
            for index, text in enumerate(texts)
            for number in range(_TRUE_PER_PROMPT)
        ]
    )


def many_step_sampler(guidance: float) -> Sampler:
    """DDIM, for teachers and students of block removal."""
    return Sampler(SCHEDULER, consistency=False, guidance_scale=guidance)


def few_step_sampler() -> Sampler:
    """For students of latent-consistency distillation, whose guidance is distilled in."""
    return Sampler(SCHEDULER, consistency=True, guidance_scale=1.0)


def mean(scores: Sequence[float]) -> float:
    """Of the prompts' scores."""
    return float(np.mean(scores))
