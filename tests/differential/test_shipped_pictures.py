"""The checkpoint that comes with the package draws what prompts say: in FP32 by diffusers, and on
the simulated NPU. What the pictures show is read by arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefusion.models.miniature.evaluation import prompts
from edgefusion.models.miniature.reader import read, shares_right
from edgefusion.models.pipeline_generator import pipeline_generator
from edgefusion.models.source import resolve_source
from edgefusion.runtime.accuracy import psnr_db
from edgefusion.toolchain.running.bundle_generator import bundle_generator
from edgefusion.toolchain.running.drawing import Wishes

STEPS = 2
FOUND_AT_LEAST = 0.9
"""Share of images that show it, of each attribute; chance is 0.5 of sizes, 0.25 of shapes."""
PROMPTS = ("a small red circle on blue", *prompts(47))


@pytest.fixture(scope="module")
def in_float() -> Sequence[Image.Image]:
    folder = resolve_source("miniature").path
    assert folder is not None
    return pipeline_generator(folder, steps=STEPS, guidance=1.0)(PROMPTS, range(len(PROMPTS)))


@pytest.fixture(scope="module")
def on_npu(demo: Path) -> Sequence[Image.Image]:
    draw = bundle_generator(demo / "miniature.npub", Wishes(STEPS), say=lambda _: None)
    return draw(PROMPTS, range(len(PROMPTS)))


def readings(images: Sequence[Image.Image]) -> list[dict[str, str]]:
    return [read(np.asarray(image)) for image in images]


def test_the_reader_tells_other_prompts_apart(in_float: Sequence[Image.Image]) -> None:
    assert shares_right(PROMPTS[::-1], readings(in_float))["all"] < 0.5


def test_pictures_in_float_show_their_prompts(in_float: Sequence[Image.Image]) -> None:
    assert min(shares_right(PROMPTS, readings(in_float)).values()) > FOUND_AT_LEAST


def test_pictures_of_the_npu_show_their_prompts(on_npu: Sequence[Image.Image]) -> None:
    assert min(shares_right(PROMPTS, readings(on_npu)).values()) > FOUND_AT_LEAST


def test_a_small_red_circle_on_blue(on_npu: Sequence[Image.Image]) -> None:
    found = read(np.asarray(on_npu[0]))
    expected = {"shape": "circle", "colour": "red", "size": "small", "ground": "blue"}
    assert {name: found[name] for name in expected} == expected


def test_npu_and_float_agree(
    in_float: Sequence[Image.Image], on_npu: Sequence[Image.Image]
) -> None:
    for exact, found in zip(in_float, on_npu, strict=True):
        assert psnr_db(np.asarray(exact, float), np.asarray(found, float)) > 30
