"""A small CLIP text encoder, trained to tell what captions say; frozen afterwards, as CLIP's is."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from edgefusion.models.miniature.fitting import fit
from edgefusion.models.miniature.pairs import token_ids
from edgefusion.models.miniature.shapes import ATTRIBUTES, caption, generator, random_scene
from edgefusion.models.miniature.words import vocabulary_size
from edgefusion.models.network_architectures import TextEncoderArchitecture
from edgefusion.runtime.progress import Say, silent

WIDTH = 64
_BATCH = 32


def untrained(seed: int) -> Any:
    """A transformers CLIPTextModel of two layers."""
    torch.manual_seed(seed)
    return TextEncoderArchitecture(
        vocabulary=vocabulary_size(), width=WIDTH, feed_forward_width=2 * WIDTH, layers=2, heads=2
    ).build()


def trained_text_encoder(seed: int, steps: int, say: Say = silent) -> Any:
    """It names a scene's attributes from the state of the caption's end mark, by linear maps that
    are thrown away. Attributes that a caption leaves open are not asked for."""
    encoder = untrained(seed)
    heads = nn.ModuleList(nn.Linear(WIDTH, len(words)) for words in ATTRIBUTES.values())
    place = list(ATTRIBUTES).index("position")

    def loss(step: int) -> torch.Tensor:
        rng = generator(seed, step)
        scenes = [random_scene(rng) for _ in range(_BATCH)]
        full = rng.random(_BATCH) < 0.5
        ids = torch.stack(
            [token_ids(caption(s, with_position=f)) for s, f in zip(scenes, full, strict=True)]
        )
        ends = (ids == vocabulary_size() - 1).int().argmax(1)
        states = encoder(ids, return_dict=False)[0][torch.arange(_BATCH), ends]
        labels = torch.tensor([scene.labels() for scene in scenes])
        labels[:, place][~torch.from_numpy(full)] = _OPEN
        losses = [
            cross_entropy(head(states), labels[:, i], ignore_index=_OPEN)
            for i, head in enumerate(heads)
        ]
        return torch.stack(losses).nanmean()  # a batch may leave every position open

    fit(nn.ModuleList([encoder, heads]), loss, steps=steps, learning_rate=1e-3, say=say)
    return encoder


_OPEN = -100
"""Of cross_entropy: a label that does not count."""
