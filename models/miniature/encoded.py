"""Pairs as U-Nets see them, encoded once: latents, and a context for each different caption."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from edgefusion.models.miniature.pairs import Pairs, token_ids
from edgefusion.models.training.draws import Draws
from edgefusion.models.training.encoders import Encoders

_BATCH = 128


@dataclass(frozen=True)
class EncodedPairs(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """``latents`` [48, 8, 8] and ``context`` [77, width] by index; pair i has context
    ``which[i]``."""

    latents: torch.Tensor
    contexts: torch.Tensor
    which: tuple[int, ...]

    @classmethod
    def of(cls, pairs: Pairs, encoders: Encoders) -> EncodedPairs:
        """All of ``pairs``, on the CPU."""
        texts = list(dict.fromkeys(pairs.captions))
        number = {text: i for i, text in enumerate(texts)}
        ids = torch.stack([token_ids(text) for text in texts])
        parts = [ids[first : first + _BATCH] for first in range(0, len(ids), _BATCH)]
        contexts = [encoders.encode(part.to(encoders.null.device)) for part in parts]
        latents = encoders.latents({"pixels": pairs.pixels}, Draws(seed=0, batch=0))
        return cls(
            latents.contiguous(),
            torch.cat(contexts).cpu(),
            tuple(number[text] for text in pairs.captions),
        )

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"latents": self.latents[index], "context": self.contexts[self.which[index]]}
