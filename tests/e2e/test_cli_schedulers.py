"""A pipeline's own scheduler from the command line: steps are not runs, and timesteps no wholes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.bundle.deployment import AS_BEFORE
from edgefusion.runtime.accuracy import psnr_db
from tests.bundle_changes import changed
from tests.differential.test_families import PROMPT, SEED, their_picture, with_scheduler
from tests.e2e.conftest import Cli
from tests.model_folders import pipeline_folder

STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = pipeline_folder(tmp_path_factory.mktemp("heun"))
    with_scheduler(made, "HeunDiscreteScheduler", {})
    return made


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    from edgefusion.api import compile_source

    path = folder.parent / "heun.npub"
    compile_source(folder, output=path, schedules="mlt", steps=STEPS, calibration_prompts=4)
    return path


def test_runs_are_counted_where_steps_were(cli: Cli, bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    unet = manifest.component("unet")
    assert manifest.deployment.scheduler == "HeunDiscreteScheduler"
    assert (manifest.steps, unet.evaluations) == (STEPS, 5)
    assert unet.scales.evaluations == 4 * 5
    assert unet.timesteps == (999, 666, 499.5, 333, 0)
    found = cli("simulate", bundle, "--json", "-").json
    assert found["components"]["unet"]["evaluations"] == 5
    found = cli("simulate", bundle, "--steps", "20", "--json", "-").json
    assert found["components"]["unet"]["evaluations"] == 39
    shown = cli("inspect", bundle)
    assert "scheduler   HeunDiscreteScheduler; the U-Net predicts epsilon" in shown.out


def test_pictures_are_those_of_diffusers(
    cli: Cli, folder: Path, bundle: Path, tmp_path: Path
) -> None:
    exact, npu = tmp_path / "exact.png", tmp_path / "npu.png"
    request = ("run", bundle, "--prompt", PROMPT, "--seed", str(SEED))
    made = cli(*request, "-o", exact, "--reference", "--json", "-")
    assert made.json["timesteps"] == [999, 499.5, 499.5, 0, 0]
    assert cli(*request, "-o", npu).code == 0
    theirs = np.rint(their_picture(folder, steps=STEPS) * 255)
    # The bundle's weights are rounded to INT8.
    assert psnr_db(theirs, np.asarray(Image.open(exact)).astype(float)) > 40
    assert psnr_db(theirs, np.asarray(Image.open(npu)).astype(float)) > 30
    refused = cli(*request, "-o", npu, "--steps", "5")
    assert refused.code == 2
    assert "no tables for timestep 749.25, 749.25" in refused.err


def test_bundles_that_say_no_scheduler_were_made_for_lcm(
    cli: Cli, bundle: Path, tmp_path: Path
) -> None:
    old = changed(bundle, tmp_path / "old.npub", {}, lambda m: replace(m, deployment=AS_BEFORE))
    assert "deployment" not in Bundle.open(old).manifest.to_json()
    told = "scheduler   LCMScheduler, in place of the source's HeunDiscreteScheduler"
    assert told in cli("inspect", old).out
    assert json.loads(cli("inspect", old, "--json", "-").out)["scheduler"]["runs"] == "LCMScheduler"


def test_what_denoises_is_chosen(cli: Cli, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "lcm.npub"
    request = ("compile", folder, "-o", path, "--schedule", "mlt", "--calibration-prompts", "0")
    made = cli(*request, "--scheduler", "lcm", "--json", "-")
    assert "HeunDiscreteScheduler is replaced by LCMScheduler" in made.err
    manifest = Bundle.open(path).manifest
    assert manifest.deployment == AS_BEFORE
    assert manifest.component("unet").timesteps == (999, 759, 499, 259)
    refused = cli(*request, "--scheduler", "ddin")
    assert refused.code == 2
    assert "Did you mean DDIM?" in refused.err
    refused = cli(*request, "--scheduler", "pndm", "--components", "vae_decoder")
    assert refused.code == 2
    assert "nothing that denoises is compiled" in refused.err
    refused = cli(*request, "--steps", "2000")
    assert refused.code == 2
    assert "--steps is 2000; expected 1 to 1000" in refused.err
