"""``edgefusion run``: images and arrays out of a compiled bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgefusion.compiler.bundle.manifest import Manifest
from edgefusion.compiler.bundle.scales import PLACEHOLDER, ScalesInfo
from edgefusion.models import text_to_image
from edgefusion.runtime.accuracy import psnr_db, sqnr_db
from edgefusion.runtime.errors import InputError
from tests.bundle_changes import changed
from tests.e2e.conftest import Cli

PROMPT = ("--prompt", "a red boat on a lake")


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"
        return np.asarray(image)


def test_run_makes_the_same_image_each_time_close_to_the_reference(
    cli: Cli, calibrated: Path, tmp_path: Path
) -> None:
    one, two, exact = (tmp_path / name for name in ("one.png", "two.png", "exact.png"))
    first = cli("run", calibrated, *PROMPT, "-o", one, "--json", "-")
    assert first.code == 0, first.err
    assert "hashing" in first.err
    assert first.json["timesteps"] == [999, 499]
    assert (first.json["width_pixels"], first.json["height_pixels"]) == (128, 128)
    assert first.json["executed_by"] == "npu"
    assert cli("run", calibrated, *PROMPT, "-o", two).code == 0
    assert one.read_bytes() == two.read_bytes()
    assert cli("run", calibrated, *PROMPT, "-o", exact, "--reference").code == 0
    assert pixels(one).shape == (128, 128, 3)
    assert psnr_db(pixels(exact), pixels(one)) > 35


def test_steps_and_seed_are_the_users(cli: Cli, calibrated: Path, tmp_path: Path) -> None:
    images = []
    for arguments in (("--steps", "4"), ("--steps", "1"), ("--seed", "5")):
        path = tmp_path / f"{arguments[0]}{arguments[1]}.png"
        result = cli("run", calibrated, *PROMPT, "-o", path, "--reference", *arguments)
        assert result.code == 0, result.err
        images.append(path.read_bytes())
    assert len(set(images)) == 3
    path = tmp_path / "three.png"
    result = cli("run", calibrated, *PROMPT, "-o", path, "--reference", "--steps", "3")
    assert result.code == 2
    assert "no tables for timestep 679, 339; expected one of 1, 2, 4" in result.err


def test_long_prompts_are_cut_with_a_warning(cli: Cli, calibrated: Path, tmp_path: Path) -> None:
    long = " ".join(f"word{i}" for i in range(80))
    result = cli(
        "run", calibrated, "--prompt", long, "-o", tmp_path / "x.png", "--reference", "--json", "-"
    )
    assert result.code == 0
    assert result.json["dropped_tokens"] == 5
    assert "5 tokens longer" in result.err


def test_prompts_of_a_file(cli: Cli, calibrated: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("# two of them\na red boat on a lake\n\na blue house\n")
    common = ("--reference", "--seed", "3", "--json", "-")
    result = cli(
        "run", calibrated, "--prompts", file, "--grid", "-o", tmp_path / "out.png", *common
    )
    assert result.code == 0, result.err
    names = [Path(image["image"]).name for image in result.json["images"]]
    assert names == ["out-1.png", "out-2.png"]
    assert [image["prompt"] for image in result.json["images"]][1] == "a blue house"
    assert "prompt 2 of 2; U-Net, step " in result.err
    alone = tmp_path / "alone.png"
    assert cli("run", calibrated, *PROMPT, "-o", alone, *common).code == 0
    assert (tmp_path / "out-1.png").read_bytes() == alone.read_bytes()
    sheet = pixels(tmp_path / "out.png")
    assert sheet.shape == (128, 256, 3)
    np.testing.assert_array_equal(sheet[:, 128:], pixels(tmp_path / "out-2.png"))


def test_a_prompt_that_fails_costs_the_others_nothing(
    cli: Cli, calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids_seen = []

    def generate(*arguments: Any, **options: Any) -> text_to_image.Generation:
        ids_seen.append(arguments[2])
        if len(ids_seen) == 2:
            raise InputError("values overflow")
        return real(*arguments, **options)

    real = text_to_image.generate
    monkeypatch.setattr(text_to_image, "generate", generate)
    file = tmp_path / "prompts.txt"
    file.write_text("a boat\na house\na hill\n")
    out = tmp_path / "out.png"
    arguments = ("--prompts", file, "--grid", "-o", out, "--reference", "--json", "-")
    result = cli("run", calibrated, *arguments)
    assert result.code == 3
    assert "2 of 3 images were made" in result.err
    assert "prompt 2, 'a house'" in result.err
    assert result.json["failed"] == [{"number": 2, "prompt": "a house", "error": "values overflow"}]
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["out-1.png", "out-3.png", "out.png"]
    sheet = pixels(out)
    assert not sheet[:128, 128:].any(), "the place of the missing image stays black"
    np.testing.assert_array_equal(sheet[128:, :128], pixels(tmp_path / "out-3.png"))


def test_a_component_runs_on_arrays(cli: Cli, calibrated: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    given = tmp_path / "x.npz"
    np.savez(given, latent=rng.standard_normal((1, 4, 16, 16)))
    arguments = ("run", calibrated, "--component", "vae_decoder", "--inputs", given)
    assert cli(*arguments, "-o", tmp_path / "y.npz").code == 0
    assert cli(*arguments, "-o", tmp_path / "exact.npz", "--reference").code == 0
    with np.load(tmp_path / "y.npz") as found, np.load(tmp_path / "exact.npz") as exact:
        assert found.files == exact.files == ["image"]
        assert found["image"].shape == (1, 3, 128, 128)
        assert sqnr_db(exact["image"], found["image"]) > 50


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "lacks latent"),
        ({"latent": np.zeros((1, 4, 16, 16)), "more": np.zeros(1)}, "has more"),
        ({"latent": np.zeros((1, 4, 8, 8))}, "expected (1, 4, 16, 16)"),
        ({"latent": np.full((1, 4, 16, 16), np.nan)}, "NaN or infinite"),
    ],
)
def test_wrong_arrays_are_refused(
    cli: Cli, calibrated: Path, tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    given = tmp_path / "x.npz"
    np.savez(given, **arrays)
    result = cli(
        "run", calibrated, "--component", "vae_decoder", "--inputs", given, "-o", tmp_path / "y.npz"
    )
    assert result.code == 3
    assert said in result.err
    assert not (tmp_path / "y.npz").exists()


def test_what_is_no_npz_is_refused(cli: Cli, calibrated: Path, tmp_path: Path) -> None:
    given = tmp_path / "x.npz"
    given.write_bytes(b"nothing of the kind")
    arguments = ("--component", "unet", "--inputs", given, "-o", tmp_path / "y.npz")
    result = cli("run", calibrated, *arguments)
    assert result.code == 3
    assert "no .npz file" in result.err


@pytest.mark.parametrize("engine", [(), ("--reference",)])
def test_a_timestep_without_a_table_is_refused(
    cli: Cli, calibrated: Path, tmp_path: Path, engine: tuple[str, ...]
) -> None:
    given = tmp_path / "x.npz"
    rng = np.random.default_rng(0)
    arrays = {
        "sample": rng.standard_normal((1, 4, 16, 16)),
        "encoder_hidden_states": rng.standard_normal((1, 77, 32)),
    }
    arguments = ("--component", "unet", "--inputs", given, "-o", tmp_path / "y.npz", *engine)
    np.savez(given, timestep=np.array([981]), **arrays)
    result = cli("run", calibrated, *arguments)
    assert result.code == 3
    assert "timestep 981: the bundle has tables for 999, 759, 499, 259 only" in result.err
    assert not (tmp_path / "y.npz").exists()
    np.savez(given, timestep=np.array([759]), **arrays)
    assert cli("run", calibrated, *arguments).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("-o", "x.png"), 2, "either --prompt"),
        ((*PROMPT, "--component", "unet", "-o", "x.png"), 2, "either --prompt"),
        (("--component", "unet", "-o", "y.npz"), 2, "--component with --inputs"),
        ((*PROMPT, "--prompts", "p.txt", "-o", "x.png"), 2, "either --prompt"),
        ((*PROMPT, "--grid", "-o", "x.png"), 2, "images of --prompts"),
        (("--prompts", "p.txt", "-o", "x.png"), 3, "cannot read the prompts"),
        ((*PROMPT, "-o", "x.jpg"), 2, ".png"),
        ((*PROMPT, "-o", "x.png", "--steps", "3"), 2, "one of 1, 2, 4"),
    ],
)
def test_wrong_requests_are_refused(
    cli: Cli,
    calibrated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("run", calibrated, *arguments)
    assert result.code == code
    assert said in result.err
    assert not list(tmp_path.iterdir())


def test_a_bundle_without_calibration_is_refused(
    cli: Cli, calibrated: Path, tmp_path: Path
) -> None:
    def without(manifest: Manifest) -> Manifest:
        placeholder = ScalesInfo(PLACEHOLDER)
        infos = tuple(replace(info, scales=placeholder) for info in manifest.components)
        return replace(manifest, components=infos)

    bundle = changed(calibrated, tmp_path / "plain.npub", {}, without)
    result = cli("run", bundle, *PROMPT, "-o", tmp_path / "x.png")
    assert result.code == 3
    assert "--calibration-prompts" in result.err


def test_a_checkpoint_without_tokenizer_is_refused(
    cli: Cli, calibrated: Path, tmp_path: Path
) -> None:
    def from_folder(manifest: Manifest) -> Manifest:
        return replace(manifest, source=replace(manifest.source, kind="folder", seed=None))

    bundle = changed(calibrated, tmp_path / "folder.npub", {}, from_folder)
    result = cli("run", bundle, *PROMPT, "-o", tmp_path / "x.png")
    assert result.code == 3
    assert "no tokenizer" in result.err
