"""Near-duplicate images by perceptual hash: 64 bits that differ little where images look alike.

Method: pHash (Zauner, 2010), by ImageHash.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


def perceptual_hash(image: Image.Image) -> str:
    """64 bits as 16 hexadecimal digits."""
    import imagehash

    return str(imagehash.phash(image))


def first_alike(hashes: Sequence[str], most_bits: int) -> list[int | None]:
    """For each image the first one before it that is kept and differs in at most ``most_bits``;
    None for those that are kept."""
    values = np.array([int(text, 16) for text in hashes], np.uint64)
    kept_values = np.empty_like(values)
    kept: list[int] = []
    found: list[int | None] = []
    for index, value in enumerate(values):
        distances = np.bitwise_count(kept_values[: len(kept)] ^ value)
        alike = np.flatnonzero(distances <= most_bits)
        if alike.size:
            found.append(kept[int(alike[0])])
            continue
        kept_values[len(kept)] = value
        kept.append(index)
        found.append(None)
    return found
