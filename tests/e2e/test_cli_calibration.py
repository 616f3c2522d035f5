"""Compiling with, without and with a given calibration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.isa import DType
from edgefusion.runtime.tensor_numbers import PLAIN, UNCALIBRATED
from tests.e2e.conftest import Cli

COMPILE = ("compile", "tiny-test", "--components", "unet", "--schedule", "mlt")


@pytest.fixture(scope="module")
def calibrated(demo: Path) -> Path:
    """A bundle whose U-Net was calibrated on one prompt and step."""
    from edgefusion.api import compile_source

    path = demo / "calibrated.npub"
    compile_source("tiny-test", output=path, schedules=("mlt",), components=("unet",), steps=1,
                   calibration_prompts=1, work_dir=demo / "work")  # fmt: skip
    return path


def test_scales_travel_in_the_program(calibrated: Path) -> None:
    bundle = Bundle.open(calibrated)
    program = bundle.program("unet")
    for t in program.tensors:
        assert (t.numbers == PLAIN) == (t.dtype is not DType.INT16)
        assert t.numbers != UNCALIBRATED
    info = bundle.manifest.component("unet").scales
    assert (info.method, info.inputs, info.evaluations) == ("minmax", "trajectories", 1)
    assert info.timesteps == (999,)
    assert len(info.prompts) == 1
    measured = json.loads(bundle.read("unet/calibration.json"))
    assert measured["identity"]["component"] == "unet"


def test_a_given_calibration_makes_the_same_scales(
    calibrated: Path, demo: Path, cli: Cli, tmp_path: Path
) -> None:
    Bundle.open(calibrated).extract(tmp_path / "all")
    file, out = tmp_path / "all" / "unet" / "calibration.json", tmp_path / "t.npub"
    given = ("--calibration", file, "--work-dir", demo / "work", "--steps", "1")
    outcome = cli(*COMPILE, "-o", out, *given)
    assert outcome.code == 0, outcome.err
    assert Bundle.open(out).program("unet") == Bundle.open(calibrated).program("unet")
    other = cli(*COMPILE, "-o", out, *given, "--random-weights", "7")
    assert other.code == 3
    assert "other weights" in other.err
    text_encoder = ("compile", "tiny-test", "--components", "text_encoder", "-o", out)
    wrong = cli(*text_encoder, "--calibration", file)
    assert wrong.code == 2
    assert "calibrates the component unet, which is not compiled" in wrong.err


def test_without_prompts_placeholders_stay(demo: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "t.npub"
    outcome = cli(*COMPILE, "-o", out, "--calibration-prompts", "0", "--work-dir", demo / "work",
                  "--json", "-")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "calibration" not in {entry["stage"] for entry in outcome.json["stages"]}
    bundle = Bundle.open(out)
    assert bundle.manifest.component("unet").scales.method == "placeholder"
    assert not any(tensor.numbers.scale for tensor in bundle.program("unet").tensors)


def test_any_timestep_costs_a_network(demo: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "t.npub"
    given = ("-o", out, "--calibration-prompts", "0", "--work-dir", demo / "work", "--json", "-")
    tables = cli(*COMPILE, *given).json["pipeline"]["total_ms"]
    assert Bundle.open(out).manifest.component("unet").timesteps == (999, 759, 499, 259)
    computed = cli(*COMPILE, *given, "--any-timestep").json["pipeline"]["total_ms"]
    assert Bundle.open(out).manifest.component("unet").timesteps == ()
    assert computed > tables


def test_prompts_of_a_file_calibrate(demo: Path, cli: Cli, tmp_path: Path) -> None:
    file, out = tmp_path / "prompts.txt", tmp_path / "t.npub"
    file.write_text("# ours\na boat\na house\na hill\n")
    given = ("-o", out, "--prompts", file, "--work-dir", demo / "work", "--steps", "1")
    outcome = cli(*COMPILE, *given, "--calibration-prompts", "2")
    assert outcome.code == 0, outcome.err
    assert Bundle.open(out).manifest.component("unet").scales.prompts == ("a boat", "a house")
    outcome = cli(*COMPILE, *given, "--calibration-prompts", "4")
    assert outcome.code == 2
    assert "expected 0 to 3" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--calibration-prompts", "99"), "expected 0 to"),
        (("--prompts", "none.txt"), "cannot read the prompts in none.txt"),
        (("--calibration-method", "median"), "expected one of minmax, percentile, mse"),
        (("--calibration", "none.json"), "is no calibration file"),
    ],
)
def test_mistakes_are_found_before_work_begins(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    outcome = cli(*COMPILE, "-o", tmp_path / "t.npub", *arguments)
    assert outcome.code in (2, 3)
    assert message in outcome.err.replace("\n", " ")
    assert not list(tmp_path.iterdir())
