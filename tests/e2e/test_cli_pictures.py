"""Pictures as inputs from the command line: compiled, run, verified, and refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from edgefusion import draw
from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.accuracy import psnr_db
from tests.e2e.conftest import Cli
from tests.model_folders import pipeline_folder
from tests.picture_folders import PICTURE_FOLDERS

SIDE, STEPS = 16, 4
PROMPT = ("--prompt", "a b")
BOTH = ("--image", "IMAGE", "--mask", "MASK")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A picture, a mask, and one of another size."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[3:9, 5:] = 255
    made = {
        "image": rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
        "mask": mask,
        "other": rng.integers(0, 256, (2 * SIDE, SIDE, 3), dtype=np.uint8),
    }
    for name, pixels in made.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in made}


def compiled(folder: Path, **options: Any) -> Path:
    from edgefusion.api import compile_source

    path = folder.parent / "made.npub"
    compile_source(folder, output=path, schedules="mlt", steps=STEPS, **options)
    return path


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that starts from a picture, and paints in it."""
    folder = PICTURE_FOLDERS["stable-diffusion-inpainting"](tmp_path_factory.mktemp("painting"))
    return compiled(folder, strength=0.5)


def drawn(cli: Cli, bundle: Path, output: Path, *options: str | Path) -> Mapping[str, Any]:
    made = cli("run", bundle, *PROMPT, "-o", output, "--json", "-", *options)
    assert made.code == 0, made.err
    found: Mapping[str, Any] = made.json
    return found


def near(one: Path, other: Path) -> bool:
    with Image.open(one) as first, Image.open(other) as second:
        return psnr_db(np.asarray(first), np.asarray(second)) > 35


def test_it_starts_from_a_picture(
    cli: Cli, painting: Path, pictures: Mapping[str, Path], tmp_path: Path
) -> None:
    manifest = Bundle.open(painting).manifest
    runs = {info.name: info.evaluations for info in manifest.components}
    assert runs == {"text_encoder": 1, "vae_encoder": 2, "unet": STEPS // 2, "vae_decoder": 1}
    assert manifest.component("vae_encoder").precision == "fp16"
    assert manifest.deployment.strength == 0.5
    assert "strength    0.5 of the noise schedule" in cli("inspect", painting).out
    unet = manifest.component("unet")
    # Calibrated over the whole schedule, for run takes any strength.
    assert unet.scales.evaluations == 2 * STEPS
    assert unet.constant_inputs == ("encoder_hidden_states", "mask", "masked_image_latent")
    npu, exact, far = (tmp_path / f"{name}.png" for name in ("npu", "exact", "far"))
    given = ("--image", pictures["image"], "--mask", pictures["mask"])
    found = drawn(cli, painting, npu, *given)
    assert (found["strength"], len(found["timesteps"])) == (0.5, STEPS // 2)
    assert found["pictures"] == {name: str(pictures[name]) for name in ("image", "mask")}
    drawn(cli, painting, exact, *given, "--reference")
    assert near(npu, exact)
    with Image.open(pictures["image"]) as image, Image.open(exact) as expected:
        (same,) = draw(painting, "a b", image=image, mask=pictures["mask"], reference=True)
        np.testing.assert_array_equal(np.asarray(same), np.asarray(expected))
    found = drawn(cli, painting, far, *given, "--strength", "1")
    assert len(found["timesteps"]) == STEPS
    drawn(cli, painting, exact, *given, "--strength", "1", "--reference")
    assert near(far, exact)
    assert not near(far, npu)
    timed = cli("simulate", painting, "--steps", "10", "--json", "-").json
    assert timed["components"]["unet"]["evaluations"] == 5
    assert timed["components"]["vae_encoder"]["evaluations"] == 2


def values_of(cli: Cli, bundle: Path) -> set[tuple[str, str]]:
    """What is compared of a bundle with its own graphs, component and value."""
    found = cli("verify", bundle, "--against", "bundle", "--json", "-")
    assert found.code == 0, found.err
    return {(row["component"], row["value"]) for row in found.json["values"]}


def test_what_pictures_become_is_verified(cli: Cli, painting: Path) -> None:
    expected = {("vae_encoder", f"{name} moments") for name in ("image", "masked_image")}
    assert expected < values_of(cli, painting)


def test_given_pictures_calibrate_and_verify(
    cli: Cli, pictures: Mapping[str, Path], tmp_path: Path
) -> None:
    folder = PICTURE_FOLDERS["stable-diffusion-inpainting"](tmp_path / "folder")
    one = ("--image", pictures["image"], "--mask", pictures["mask"])
    sets = (*one, *one)
    bundle = tmp_path / "given.npub"
    request = ("compile", folder, "-o", bundle, "--steps", "2", "--schedule", "mlt")
    made = cli(*request, *sets)
    assert made.code == 0, made.err
    with ZipFile(bundle) as archive:
        calibration = json.loads(archive.read("unet/calibration.json"))
    assert len(calibration["identity"]["pictures_sha256"]) == 64
    found = cli("verify", bundle, "--against", "bundle", *one, "--json", "-")
    assert found.code == 0, found.err
    figures = {row["value"]: row["bundle_db"] for row in found.json["values"]}
    other = cli("verify", bundle, "--against", "bundle", "--json", "-").json["values"]
    moments = "masked_image moments"
    assert figures[moments] != next(r["bundle_db"] for r in other if r["value"] == moments)
    refusals = {
        (*sets, *one): "pictures of 3 prompts were given, and 2 prompts",
        one[:2]: "no --mask was given",
        sets[:6]: "--image 2 times and --mask 1 times",
        (
            "--image",
            pictures["other"],
            "--mask",
            pictures["mask"],
        ): "is 16 x 32 pixels; expected 16 x 16",
        (*one, "--control", pictures["mask"]): "--control was given",
    }
    for options, told in refusals.items():
        refused = cli(*request, *options)
        assert refused.code in (2, 3)
        assert told in " ".join(refused.err.split())
        assert "pass 1" not in refused.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "no --image was given, and made.npub takes one"),
        (("--image", "IMAGE"), "no --mask was given, and made.npub takes one: white where"),
        ((*BOTH, "--image", "OTHER"), "is 16 x 32 pixels; expected 16 x 16"),
        ((*BOTH, "--mask", "BUNDLE"), "cannot be read as a picture"),
        ((*BOTH, "--control", "MASK"), "--control was given, and made.npub takes --image and --m"),
        ((*BOTH, "--strength", "0.1"), "none of 4 denoising steps; expected 0.25 to"),
        ((*BOTH, "--strength", "1.5"), "expected a number above 0 up to 1"),
        ((*BOTH, "--control-scale", "1"), "made.npub has no ControlNet"),
        ((*BOTH, "--image", "absent.png"), "absent.png"),
    ],
)
def test_what_does_not_fit_is_told_before_any_work(
    options: tuple[str, ...],
    told: str,
    cli: Cli,
    painting: Path,
    pictures: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    places = {name.upper(): path for name, path in pictures.items()} | {"BUNDLE": painting}
    given = [places.get(each, each) for each in options]
    found = cli("run", painting, *PROMPT, "-o", tmp_path / "x.png", *given)
    assert found.code in (2, 3)
    assert told in " ".join(found.err.split())
    assert "text encoder" not in found.err
    assert not (tmp_path / "x.png").exists()


def test_the_image_encoder_is_exported(cli: Cli, tmp_path: Path) -> None:
    folder, output = pipeline_folder(tmp_path / "folder"), tmp_path / "onnx"
    request = ("export", folder, "-o", output, "--components", "vae_encoder")
    assert cli(*request).code == 2
    assert cli(*request, "--image-to-image").code == 0
    assert (output / "vae_encoder.onnx").is_file()


def test_without_a_picture_to_start_from_there_is_no_strength(cli: Cli, tmp_path: Path) -> None:
    folder = pipeline_folder(tmp_path)
    found = cli("compile", folder, "-o", tmp_path / "x.npub", "--strength", "0.5")
    assert found.code == 2
    assert "makes images of noise; expected" in " ".join(found.err.split())
    found = cli("compile", folder, "-o", tmp_path / "x.npub", "--image-to-image", "--steps", "1")
    assert found.code == 2
    assert "--strength is 0.8, which leaves none of 1 denoising steps" in " ".join(
        found.err.split()
    )


def test_a_control_net(cli: Cli, pictures: Mapping[str, Path], tmp_path: Path) -> None:
    folder = PICTURE_FOLDERS["stable-diffusion-controlnet"](tmp_path)
    bundle = compiled(folder, control_scale=0.8, guidance=3.0)
    manifest = Bundle.open(bundle).manifest
    control = manifest.component("controlnet")
    assert (control.precision, control.evaluations) == ("w8a16", 2 * STEPS)
    assert control.scales.evaluations == 2 * 2 * STEPS
    constant = ("encoder_hidden_states", "control_image", "control_scale")
    assert control.constant_inputs == constant
    assert manifest.component("unet").constant_inputs == ("encoder_hidden_states",)
    npu, exact, off = (tmp_path / f"{name}.png" for name in ("npu", "exact", "off"))
    given = ("--control", pictures["image"])
    assert drawn(cli, bundle, npu, *given)["control_scale"] == 0.8
    drawn(cli, bundle, exact, *given, "--reference")
    drawn(cli, bundle, off, *given, "--control-scale", "0", "--reference")
    assert near(npu, exact)
    assert not near(off, exact)
    found = cli("run", bundle, *PROMPT, *given, "-o", off, "--control-scale", "1")
    assert found.code == 2
    assert "expected a number from 0 to 0.8" in " ".join(found.err.split())
    assert ("controlnet", "residual_mid") in values_of(cli, bundle)
