"""Guided pictures from the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.bundle.deployment import Guidance
from edgefusion.compiler.bundle.manifest import Manifest
from edgefusion.runtime.accuracy import psnr_db
from tests.bundle_changes import changed
from tests.differential.test_families import PROMPT, SEED, their_picture
from tests.e2e.conftest import Cli
from tests.model_folders import pipeline_folder

REQUEST = ("--prompt", PROMPT, "--seed", str(SEED))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline_folder(tmp_path_factory.mktemp("guided"))


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    from edgefusion.api import compile_source

    path = folder.parent / "guided.npub"
    compile_source(folder, output=path, schedules="mlt", steps=2, guidance=5.0)
    return path


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(Image.open(path)).astype(float)


def test_passes_are_counted(cli: Cli, bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.deployment.guidance == Guidance(5.0)
    assert [c.evaluations for c in manifest.components] == [2, 4, 1]
    assert manifest.component("unet").scales.evaluations == 2 * 4
    found = cli("simulate", bundle, "--steps", "3", "--json", "-").json
    assert found["components"]["unet"]["evaluations"] == 6
    shown = cli("inspect", bundle)
    assert "guidance    5; the U-Net runs with the prompt and without" in shown.out


def test_verify_follows_both_passes(cli: Cli, folder: Path, bundle: Path) -> None:
    checked = cli("verify", bundle, "--source", folder, "--prompts", "1", "--min-sqnr-db", "15")
    assert checked.code == 0, checked.err


def test_pictures_are_those_of_diffusers(
    cli: Cli, folder: Path, bundle: Path, tmp_path: Path
) -> None:
    own, other = tmp_path / "own.png", tmp_path / "other.png"
    made = cli("run", bundle, *REQUEST, "-o", own, "--reference", "--json", "-")
    assert (made.json["guidance"], made.json["negative_prompt"]) == (5.0, None)
    theirs = np.rint(their_picture(folder, steps=2, guidance_scale=5.0) * 255)
    assert psnr_db(theirs, pixels(own)) > 35  # the bundle's weights are rounded to INT8
    changes = ("--guidance", "3", "--negative-prompt", "b b")
    made = cli("run", bundle, *REQUEST, "-o", other, *changes, "--json", "-")
    assert (made.json["guidance"], made.json["negative_prompt"]) == (3.0, "b b")
    arguments = {"guidance_scale": 3.0, "negative_prompt": "b b"}
    theirs = np.rint(their_picture(folder, steps=2, **arguments) * 255)
    assert psnr_db(theirs, pixels(other)) > 30
    refused = cli("run", bundle, "--component", "unet", "--inputs", other, "-o", own, *changes)
    assert refused.code == 2


def test_what_was_compiled_without(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    def without(manifest: Manifest) -> Manifest:
        return replace(manifest, deployment=replace(manifest.deployment, guidance=None))

    plain = changed(bundle, tmp_path / "plain.npub", {}, without)
    request = ("run", plain, *REQUEST, "-o", tmp_path / "x.png")
    refused = cli(*request, "--guidance", "5")
    assert refused.code == 2
    assert "compiled without" in refused.err
    refused = cli(*request, "--negative-prompt", "rain")
    assert refused.code == 2
    assert "no effect without guidance" in refused.err
