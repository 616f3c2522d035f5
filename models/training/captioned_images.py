"""A staged dataset as training sees it: pixels and token ids by index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from edgefusion.models.data.dataset import open_dataset
from edgefusion.models.data.reading import read_image
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from edgefusion.models.data.sample import Sample

_SHOWN = 3


@dataclass(frozen=True)
class CaptionedImages(Dataset[dict[str, torch.Tensor]]):
    """``pixels``, float32 [3, side, side] in [-1, 1], and ``input_ids``, int64 [tokens].

    Images are scaled to their shorter side and cropped in the centre. A sample is a function of
    its index.
    """

    samples: tuple[Sample, ...]
    tokenize: Callable[[str], Any]
    side_px: int

    @classmethod
    def open(
        cls, path: Path, caption_column: str, tokenize: Callable[[str], Any], side_px: int
    ) -> CaptionedImages:
        """The dataset at ``path``. Raises InputError for one that is not understood, is empty, or
        has samples without a caption; it names the first."""
        samples = tuple(open_dataset(path, caption_column))
        bare = [sample.key for sample in samples if not sample.caption]
        if bare:
            raise InputError(
                f"{len(bare)} of the {len(samples)} samples in {path} have no caption, first "
                f"{', '.join(bare[:_SHOWN])}; expected one in column {caption_column} for each. "
                "`edgefusion data` drops or captions them."
            )
        return cls(samples, tokenize, side_px)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        sample = self.samples[index]
        image = read_image(sample)
        if isinstance(image, str):
            raise InputError(
                f"{sample.path or sample.key}: {image}. `edgefusion data` leaves such samples out; "
                "stage the dataset again, or remove this one."
            )
        side = (self.side_px, self.side_px)
        fitted = ImageOps.fit(image, side, Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.asarray(fitted, np.float32) / 127.5 - 1)
        ids = torch.from_numpy(self.tokenize(sample.caption).ids[0])
        return {"pixels": pixels.permute(2, 0, 1).contiguous(), "input_ids": ids}
