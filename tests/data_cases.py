"""Small datasets, and stand-ins for the models that the stages of data ask."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgefusion.models.data.plug_in_types import Decision


def picture(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """A smooth random image; other seeds look different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def image_folder(folder: Path, rows: Sequence[tuple[str, bytes | None, Any]]) -> Path:
    """A dataset of (file name, content or None for no file, caption)."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, content, caption in rows:
        if content is not None:
            (folder / name).write_bytes(content)
        lines.append(json.dumps({"caption": caption, "file_name": name, "other": 1}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def plain_folder(folder: Path, count: int) -> Path:
    """``count`` good samples, wide and high in turn."""
    return image_folder(
        folder,
        [
            (f"{i:03d}.png", png(picture(i, *((64, 48) if i % 2 else (48, 64)))), f"caption {i}")
            for i in range(count)
        ],
    )


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too, with their contents."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def brightest(crops: Sequence[Image.Image], caption: str) -> list[float]:
    """A crop scorer: the brighter the better."""
    return [float(np.asarray(crop).mean()) for crop in crops]


def colours(images: Sequence[Image.Image]) -> list[str]:
    """A captioner, whose result depends on the whole batch as a model's last bits do."""
    means = [np.asarray(image).mean(axis=(0, 1)).round().astype(int).tolist() for image in images]
    return [f"colour {mean}, one of {len(images)}" for mean in means]


def draw(prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
    """A generator: noise of the seed; "blank" gives nothing."""
    return [
        Image.new("RGB", (16, 16), "black") if "blank" in prompt else picture(seed, 16, 16)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]


def keep_even(key: str, image: Image.Image, caption: str) -> Decision:
    """A curator."""
    return Decision(int(Path(key).stem) % 2 == 0, caption.upper())
