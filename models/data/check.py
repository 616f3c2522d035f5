"""What a dataset holds, before anything is done to it: the figures of L-orig."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from edgefusion.models.data.captions import captions_cut
from edgefusion.models.data.preprocess import MISSING_CAPTION
from edgefusion.models.data.reading import read_image
from edgefusion.models.data.sample import Dataset
from edgefusion.models.tokenization import Tokenizer
from edgefusion.runtime.progress import Say, silent

_PERCENTILES = (0, 5, 50, 95, 100)


def check(
    dataset: Dataset,
    *,
    tokenizer: Tokenizer | None = None,
    say: Say = silent,
) -> dict[str, Any]:
    """Samples, what is wrong with them, percentiles of the shorter side in pixels, and captions
    longer than CLIP takes (None without a tokenizer)."""
    faults: Counter[str] = Counter()
    shorter_pixels: list[int] = []
    captions: list[str] = []
    for number, sample in enumerate(dataset, 1):
        say(f"check: {number} of the samples")
        image = read_image(sample)
        if isinstance(image, str):
            faults[image] += 1
        else:
            shorter_pixels.append(min(image.size))
        if sample.caption:
            captions.append(sample.caption)
        else:
            faults[MISSING_CAPTION] += 1
    sizes = np.percentile(shorter_pixels, _PERCENTILES) if shorter_pixels else ()
    return {
        "schema_version": 1,
        "samples": number if captions or faults else 0,
        "faults": dict(sorted(faults.items())),
        "shorter_side_pixels": {
            f"percentile_{p}": float(size) for p, size in zip(_PERCENTILES, sizes, strict=False)
        },
        "captions": len(captions),
        "captions_cut": captions_cut(captions, tokenizer),
    }
