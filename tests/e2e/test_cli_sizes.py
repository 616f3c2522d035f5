"""Pictures of a chosen size from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.accuracy import psnr_db
from tests.differential.test_families import PROMPT, SEED, their_picture
from tests.e2e.conftest import Cli
from tests.model_folders import pipeline_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline_folder(tmp_path_factory.mktemp("sized"))


def test_a_latent_of_40_by_72(cli: Cli, folder: Path, tmp_path: Path) -> None:
    bundle, image = tmp_path / "sized.npub", tmp_path / "image.png"
    size = ("--height", "80", "--width", "144")
    made = cli("compile", folder, "-o", bundle, *size, "--schedule", "mlt", "--steps", "2")
    assert made.code == 0, made.err
    assert Bundle.open(bundle).manifest.deployment.latent == (40, 72)
    checked = cli("verify", bundle, "--source", folder, "--prompts", "1", "--layers", "none")
    assert checked.code == 0, checked.err
    made = cli("run", bundle, "--prompt", PROMPT, "--seed", str(SEED), "-o", image, "--json", "-")
    assert (made.json["height_pixels"], made.json["width_pixels"]) == (80, 144)
    theirs = np.rint(their_picture(folder, steps=2, height=80, width=144) * 255)
    assert psnr_db(theirs, np.asarray(Image.open(image)).astype(float)) > 35


def test_a_size_that_does_not_divide(cli: Cli, folder: Path, tmp_path: Path) -> None:
    refused = cli("compile", folder, "-o", tmp_path / "x.npub", "--width", "81")
    assert refused.code == 2
    assert "--width is 81; expected a multiple of 2 pixels" in refused.err
