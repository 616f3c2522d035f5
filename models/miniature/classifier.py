"""A small network that sees a picture's attributes, and what it does in the recipe.

One, the labeller, stands where the paper has language and vision models: it captions, scores crops
and curates. Another, with its own seed, data and width, judges results and nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

from edgefusion.models.data.plug_in_types import Decision
from edgefusion.models.miniature.fitting import fit
from edgefusion.models.miniature.pairs import as_pixels
from edgefusion.models.miniature.shapes import (
    ATTRIBUTES,
    MIDDLE,
    SIDE_PX,
    Scene,
    caption,
    sample,
    told,
)
from edgefusion.runtime.progress import Say, silent

_BATCH = 64
_NOISE = 0.1
_NAMES = tuple(ATTRIBUTES)


class AttributeNet(nn.Module):
    """Images [n, 3, 32, 32] in [-1, 1] to logits [n, 19], those of an attribute side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for factor in (1, 2, 4):
            layers += [
                nn.Conv2d(channels, factor * width, 3, stride=2, padding=1),
                nn.GroupNorm(4, factor * width),
                nn.SiLU(),
            ]
            channels = factor * width
        count = sum(map(len, ATTRIBUTES.values()))
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * (SIDE_PX // 8) ** 2, count)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        logits: torch.Tensor = self.layers(images)
        return logits

    @torch.no_grad()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """[n, 4 width]: what the last convolution gives, its mean over the picture."""
        maps: torch.Tensor = self.layers[:-2](images)
        return maps.mean((2, 3))


def trained_classifier(seed: int, width: int, steps: int, say: Say = silent) -> AttributeNet:
    """Trained on drawn scenes of ``seed``, with noise on the pixels."""
    torch.manual_seed(seed)
    network = AttributeNet(width)
    noise = torch.Generator().manual_seed(seed)

    def loss(step: int) -> torch.Tensor:
        drawn = [sample(seed, step * _BATCH + i) for i in range(_BATCH)]
        images = torch.from_numpy(np.stack([image for _, image in drawn]))
        pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        level = _NOISE * torch.rand((_BATCH, 1, 1, 1), generator=noise)
        logits = network(pixels + level * torch.randn(pixels.shape, generator=noise))
        labels = torch.tensor([scene.labels() for scene, _ in drawn])
        parts = [cross_entropy(part, labels[:, i]) for i, part in enumerate(_split(logits))]
        return torch.stack(parts).mean()

    fit(network, loss, steps=steps, learning_rate=2e-3, say=say)
    return network


@torch.no_grad()
def seen(network: AttributeNet, images: torch.Tensor) -> npt.NDArray[np.int64]:
    """The labels [n, 5] of images [n, 3, 32, 32]."""
    found = torch.stack([part.argmax(1) for part in _split(network(images))], 1)
    labels: npt.NDArray[np.int64] = found.numpy()
    return labels


def agreement(
    network: AttributeNet, images: torch.Tensor, captions: Sequence[str]
) -> npt.NDArray[np.float64]:
    """For each image the share of the attributes its caption tells that it shows, [n]."""
    shares = []
    for labels, text in zip(seen(network, images), captions, strict=True):
        scene = Scene.of_labels(labels)
        asked = told(text)
        shares.append(np.mean([getattr(scene, name) == word for name, word in asked.items()]))
    return np.array(shares)


def _split(logits: torch.Tensor) -> Sequence[torch.Tensor]:
    return torch.split_with_sizes(logits, [len(words) for words in ATTRIBUTES.values()], 1)


@dataclass(frozen=True, slots=True)
class Labeller:
    """The plug-ins of the stages of data, by one network."""

    network: AttributeNet

    def captions(self, images: Sequence[Image.Image]) -> list[str]:
        """A ``Captioner``: what the network sees; every other shape in the middle without saying
        so."""
        scenes = [Scene.of_labels(row) for row in seen(self.network, _pixels(images))]
        return [
            caption(scene, with_position=scene.position != MIDDLE or _coin(image))
            for scene, image in zip(scenes, images, strict=True)
        ]

    @torch.no_grad()
    def scores(self, crops: Sequence[Image.Image], text: str) -> list[float]:
        """A ``CropScorer``: the mean probability of the words that the caption tells; of the shape
        that is seen, where it tells none."""
        parts = [part.softmax(1) for part in _split(self.network(_pixels(crops)))]
        asked = told(text)
        if not asked:
            likeliest: list[float] = parts[0].amax(1).tolist()
            return likeliest
        columns = [
            parts[_NAMES.index(name)][:, ATTRIBUTES[name].index(word)]
            for name, word in asked.items()
        ]
        means: list[float] = torch.stack(columns).mean(0).tolist()
        return means

    def curate(self, key: str, image: Image.Image, text: str) -> Decision:  # noqa: ARG002
        """A ``Curator``: keeps pairs in which all that the caption tells is seen."""
        whole = agreement(self.network, _pixels([image]), [text])[0] == 1.0
        return Decision(bool(whole), text)


def _coin(image: Image.Image) -> bool:
    """Even odds, by what the picture is, so that a repeated stage writes the same."""
    return zlib.crc32(image.tobytes()) % 2 == 0


def _pixels(images: Sequence[Image.Image]) -> torch.Tensor:
    side = (SIDE_PX, SIDE_PX)
    return as_pixels([i if i.size == side else i.resize(side) for i in images])
