"""Datasets as they lie on a disk, for training and its command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def image_folder(folder: Path, count: int, side_px: int = 20) -> Path:
    """``count`` images of noise with captions, in the layout of Hugging Face's imagefolder."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        pixels = rng.integers(0, 256, (side_px, side_px + i, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append(json.dumps({"file_name": f"{i}.png", "text": f"picture number {i}"}))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return folder
