from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgefusion.models.tokenization import HashingTokenizer
from edgefusion.models.training.captioned_images import CaptionedImages
from edgefusion.runtime.errors import InputError
from tests.training_data import image_folder


def opened(folder: Path, side: int = 16) -> CaptionedImages:
    return CaptionedImages.open(folder, "text", HashingTokenizer(100, 6), side)


def test_samples(tmp_path: Path) -> None:
    data = opened(image_folder(tmp_path / "data", 3))
    assert len(data) == 3
    sample = data[1]
    assert sample["pixels"].shape == (3, 16, 16)
    assert sample["pixels"].dtype == torch.float32
    assert -1 <= float(sample["pixels"].min()) < float(sample["pixels"].max()) <= 1
    assert (
        sample["input_ids"].tolist() == HashingTokenizer(100, 6)("picture number 1").ids[0].tolist()
    )
    assert all(torch.equal(a, b) for a, b in zip(sample.values(), data[1].values(), strict=True))


def test_values_and_crop(tmp_path: Path) -> None:
    """A wide image loses its ends; black is -1, white is 1."""
    folder = tmp_path / "data"
    folder.mkdir()
    pixels = np.full((16, 48, 3), 128, np.uint8)
    pixels[:, 16:32] = 0
    pixels[:8, 16:32] = 255
    Image.fromarray(pixels).save(folder / "wide.png")
    (folder / "metadata.jsonl").write_text('{"file_name": "wide.png", "text": "a"}\n')
    image = opened(folder)[0]["pixels"]
    assert torch.equal(image[:, :8], torch.ones(3, 8, 16))
    assert torch.equal(image[:, 8:], -torch.ones(3, 8, 16))


def test_missing_captions(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "data", 3)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    rows[2]["text"] = "  "
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=r"1 of the 3 samples in .* have no caption, first 2\.png"):
        opened(folder)


def test_unreadable_image(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "data", 2)
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:60])
    data = opened(folder)
    data[0]
    with pytest.raises(InputError, match=r"1\.png: unreadable image"):
        data[1]
    (folder / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png: missing image"):
        data[1]
