"""``edgefusion verify``: gates that hold, and gates that fire."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bundle_changes import rescaled
from tests.e2e.conftest import Cli, Outcome

TENSOR, OP = "silu_3_last", "node_silu_3"
"""A tensor whose scale no other one shares, and the op that makes it."""


@pytest.fixture(scope="module")
def report(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The report on a sound bundle."""
    from edgefusion.cli.main import main

    path = tmp_path_factory.mktemp("verify") / "report.json"
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(calibrated), "--suggest", "--json", str(path)])
    assert not ended.value.code
    loaded: dict[str, object] = json.loads(path.read_text())
    return loaded


def test_a_sound_bundle_passes_its_gates(report: dict[str, object]) -> None:
    assert report["schema_version"] == 3
    assert report["reference_weights"] == "source"
    values = {(row["value"], row["timestep"]): row for row in report["values"]}  # type: ignore[attr-defined]
    assert {("latent", 999), ("latent", 499), ("image", None)} <= values.keys()
    assert values["latent", 499]["bundle_db"] > 40
    assert values["image", None]["bundle_db"] > 35
    assert 30 < values["latent", 499]["source_db"] < values["latent", 499]["bundle_db"]
    assert report["model_references"] == dict.fromkeys(
        ("text_encoder", "unet", "vae_decoder"), "source"
    )
    gates = report["gates"]
    assert gates["passed"] is gates["arithmetic_passed"] is gates["model_passed"] is True  # type: ignore[index]
    assert gates["summary"] == "arithmetic and model are both checked"  # type: ignore[index]


def test_every_layer_is_measured_and_its_causes_explain_it(report: dict[str, object]) -> None:
    rows = report["layers"]
    assert isinstance(rows, list)
    assert {row["timestep"] for row in rows} == {999, 499}
    assert len(rows) > 400
    for row in rows:
        if row["kind"] in ("conv", "matmul"):
            assert row["weights_sqnr_db"] > 35, row["op"]
            powers = [
                10 ** (-row[f"{cause}_sqnr_db"] / 10)
                for cause in ("weights", "inputs", "output", "requantization", "tables")
                if row[f"{cause}_sqnr_db"] is not None
            ]
            total = 10 ** (-row["isolated_sqnr_db"] / 10)
            assert sum(powers) == pytest.approx(total, rel=0.6), row["op"]
        if row["kind"] in ("group_norm", "layer_norm"):
            assert row["weights_sqnr_db"] is None, "these have no rounded weights"
            rounded = row["requantization_sqnr_db"]
            assert rounded is None or rounded > 60, row["op"]


def test_suggestions_are_ranked_by_what_a_millisecond_takes_away(
    report: dict[str, object],
) -> None:
    """First those that cost none: so small an op takes as long as its transfers are set up, and one
    in FP16 whose conversions stay in SRAM has no scales of weights to load."""
    rows = report["suggestions"]
    assert isinstance(rows, list)
    assert len(rows) == 20
    assert all(row["int16_ms"] > 0 for row in rows)
    assert all(row["extra_ms"] == row["fp16_ms"] - row["int16_ms"] for row in rows)
    free = [row for row in rows if row["extra_ms"] <= 0]
    assert rows[: len(free)] == free
    assert len(free) < len(rows)
    assert all(row["noise_per_extra_ms"] is None for row in free)
    gains = [row["noise_per_extra_ms"] for row in rows[len(free) :]]
    assert gains == sorted(gains, reverse=True)


def quick(cli: Cli, bundle: Path, *arguments: str) -> Outcome:
    return cli("verify", bundle, "--layers", "none", "--json", "-", *arguments)


@pytest.mark.parametrize(
    ("option", "gates"),
    [("--min-sqnr-db", (False, True)), ("--min-psnr-db", (False, False))],
)
def test_a_gate_that_is_too_high_fires(
    cli: Cli, calibrated: Path, option: str, gates: tuple[bool, bool]
) -> None:
    result = quick(cli, calibrated, option, "200", "--min-model-db", "20")
    assert result.code == 6
    assert "at least 200 dB" in result.err
    found = result.json["gates"]
    assert (found["arithmetic_passed"], found["model_passed"]) == gates
    assert found["passed"] is False
    assert {row["model_gate_db"] for row in result.json["values"] if row["value"] == "latent"} == {
        20
    }


def test_one_scale_too_large_fires_and_is_blamed(
    cli: Cli, calibrated: Path, tmp_path: Path
) -> None:
    bundle = rescaled(calibrated, tmp_path / "x.npub", lambda t: 5000 if t.name == TENSOR else 1)
    result = cli("verify", bundle, "--json", tmp_path / "report.json")
    assert result.code == 6
    assert f"worst layer is {OP} of unet" in result.err
    assert (tmp_path / "report.json").exists()


def test_all_scales_fifty_times_too_large_fire(cli: Cli, calibrated: Path, tmp_path: Path) -> None:
    bundle = rescaled(calibrated, tmp_path / "x.npub", lambda t: 50)
    assert quick(cli, bundle).code == 6


def test_a_scale_too_small_clips_and_fires(cli: Cli, calibrated: Path, tmp_path: Path) -> None:
    bundle = rescaled(calibrated, tmp_path / "x.npub", lambda t: 1 / 50 if t.name == TENSOR else 1)
    result = cli("verify", bundle, "--json", tmp_path / "report.json")
    assert result.code == 6
    assert f"worst layer is {OP} of unet" in result.err
    assert "mostly by output" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--against", "nothing"), 2, "expected one of bundle, source, both"),
        (("--layers", "tail"), 2, "has no tail"),
        (("--source", "bk-sdm-tiny"), 3, "not what the bundle was compiled from"),
    ],
)
def test_wrong_requests_are_refused(
    cli: Cli, calibrated: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = cli("verify", calibrated, *arguments)
    assert result.code == code
    assert said in result.err


def test_a_recipe_for_hard_weights_is_written_and_keeps_its_word(cli: Cli, tmp_path: Path) -> None:
    """Outliers and heavy tails leave INT16 some dB below a demanding gate."""
    from edgefusion.api import compile_source

    def bundle(name: str, recipe: Path | None = None) -> Path:
        path = tmp_path / name
        compile_source("tiny-test-stress", output=path, schedules=("mlt",), recipe=recipe,
                       calibration_prompts=8, work_dir=tmp_path / "work")  # fmt: skip
        return path

    def worst(document: dict[str, list[dict[str, float | str]]], value: str) -> float:
        return min(float(r["bundle_db"]) for r in document["values"] if r["value"] == value)

    recipe = tmp_path / "r.toml"
    gates = ("--min-sqnr-db", "52", "--against", "bundle")
    before = cli("verify", bundle("a.npub"), "--recipe-out", recipe, "--json", "-", *gates)
    assert before.code == 6
    assert 40 < worst(before.json, "latent") < 50
    written = before.json["recipe"]
    assert written["predicted_to_pass"] is True
    assert 5 < written["ops"] < 60, "a part of the network's 190"
    assert written["extra_ms_an_evaluation_at_most"] > 0
    after = quick(cli, bundle("b.npub", recipe), *gates)
    assert after.code == 0, after.err
    assert worst(after.json, "latent") == pytest.approx(written["predicted_sqnr_db"], abs=5)
    assert worst(after.json, "image") > 35
