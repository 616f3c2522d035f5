"""Pictures with captions in memory, as training wants them: small enough, and read in no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from edgefusion.models.data.dataset import open_dataset
from edgefusion.models.data.images import decoded
from edgefusion.models.miniature.shapes import SIDE_PX
from edgefusion.models.miniature.words import tokenizer
from edgefusion.runtime.errors import InputError


@cache
def token_ids(text: str) -> torch.Tensor:
    """int64 [77]."""
    return torch.from_numpy(tokenizer()(text).ids[0])


def as_pixels(images: Sequence[Image.Image]) -> torch.Tensor:
    """RGB images of the same size to float32 [n, 3, h, w] in [-1, 1]."""
    stacked = np.stack([np.asarray(image.convert("RGB"), np.float32) for image in images])
    return torch.from_numpy(stacked / 127.5 - 1).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Pairs(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """``pixels`` [3, 32, 32] and ``input_ids`` [77] by index."""

    pixels: torch.Tensor
    captions: tuple[str, ...]

    @classmethod
    def of(cls, folders: Sequence[Path]) -> Pairs:
        """All captioned pairs of the datasets; images are scaled and cropped in the centre.

        Raises InputError where there are none.
        """
        samples = [s for folder in folders for s in open_dataset(folder) if s.caption]
        if not samples:
            raise InputError(f"{', '.join(map(str, folders))} hold no captioned image.")
        side = (SIDE_PX, SIDE_PX)
        images = [ImageOps.fit(decoded(sample.read()), side) for sample in samples]
        return cls(as_pixels(images), tuple(sample.caption for sample in samples))

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixels": self.pixels[index], "input_ids": token_ids(self.captions[index])}
