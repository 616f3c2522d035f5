"""What the pictures of the shipped checkpoint show, in FP32 and on the simulated NPU.

256 prompts that no training saw are read by arithmetic (``models/miniature/reader.py``): the share
of images that show what the prompt says, of each attribute, and of shapes by size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgefusion.benchmarks.compile_speed import run
from edgefusion.models.miniature.evaluation import prompts
from edgefusion.models.miniature.reader import read, shares_right
from edgefusion.models.miniature.shapes import ATTRIBUTES
from edgefusion.models.pipeline_generator import pipeline_generator
from edgefusion.models.source import resolve_source
from edgefusion.runtime.accuracy import psnr_db

SOURCE = "miniature"
PROMPTS = 256
PROMPTS_A_SEED = 32
STEPS = (1, 2, 4)
NPU_STEPS = 2
Images = list[Image.Image]


def in_float(texts: Sequence[str], steps: int) -> Images:
    """By diffusers."""
    folder = resolve_source(SOURCE).path
    assert folder is not None
    seeds = [number // PROMPTS_A_SEED for number in range(len(texts))]
    return list(pipeline_generator(folder, steps=steps, guidance=1.0)(texts, seeds))


def on_npu(texts: Sequence[str], place: Path) -> Images:
    """By the command line, as a user would."""
    bundle, file = place / f"{SOURCE}.npub", place / "prompts.txt"
    run(["compile", SOURCE, "-o", str(bundle), "--steps", str(NPU_STEPS)])
    images: Images = []
    for seed, first in enumerate(range(0, len(texts), PROMPTS_A_SEED)):
        file.write_text("\n".join(texts[first : first + PROMPTS_A_SEED]))
        output = place / f"{seed}.png"
        drawing = ["run", str(bundle), "--prompts", str(file), "--seed", str(seed)]
        document, _, _ = run([*drawing, "-o", str(output)])
        images += [Image.open(image["image"]) for image in document["images"]]
        print(f"NPU: {len(images)} of {len(texts)} images")
    return images


def shares(texts: Sequence[str], images: Images) -> dict[str, float]:
    """By attribute, in all, and of small and large shapes."""
    readings = [read(np.asarray(image)) for image in images]
    found = shares_right(texts, readings)
    for size in ATTRIBUTES["size"]:
        chosen = [i for i, text in enumerate(texts) if size in text.split()]
        of_size = shares_right([texts[i] for i in chosen], [readings[i] for i in chosen])
        found[f"shape, {size}"] = of_size["shape"]
    return found


def main(count: int = PROMPTS) -> dict[str, Any]:
    """Print and return the shares by network and steps, and how near NPU and FP32 are."""
    texts = prompts(count)
    images = {f"FP32, steps {steps}": in_float(texts, steps) for steps in STEPS}
    exact, npu = images[f"FP32, steps {NPU_STEPS}"], f"W8A16 on the NPU, steps {NPU_STEPS}"
    with tempfile.TemporaryDirectory(prefix="edgefusion-miniature-") as place:
        images[npu] = on_npu(texts, Path(place))
        found = {name: shares(texts, drawn) for name, drawn in images.items()}
        distances_db = [
            psnr_db(np.asarray(a, float), np.asarray(b, float))
            for a, b in zip(exact, images[npu], strict=True)
        ]
    for name, by_attribute in found.items():
        print(name, *(f"{key} {share:.3f}" for key, share in by_attribute.items()), sep="; ")
    nearness = {"least": min(distances_db), "median": float(np.median(distances_db))}
    print("PSNR of the NPU's pictures against FP32's, dB", nearness)
    return {"prompts": count, "shares": found, "npu_against_fp32_psnr_db": nearness}


if __name__ == "__main__":
    main()
