"""``edgefusion evaluate`` on a pipeline's folder and on a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data_cases import picture, png, tree
from tests.e2e.conftest import Cli
from tests.model_folders import clip_folder, pipeline_folder

NETWORK = "tests.unit.models.evaluation.test_evaluation_scores:Projection"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "captions.json"
    rows = [{"id": i, "caption": "a b " * (i % 3 + 1)} for i in range(8)]
    path.write_text(json.dumps({"annotations": rows}))
    return path


def test_a_pipeline_is_scored_and_its_images_are_kept(
    cli: Cli, tmp_path: Path, prompts: Path
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    for i in range(8):
        (real / f"{i}.png").write_bytes(png(picture(i, 30, 20)))
    model, clip = pipeline_folder(tmp_path), clip_folder(tmp_path / "clip")
    output = tmp_path / "out"
    arguments = (
        *("evaluate", model, "--captions", prompts, "-o", output, "--count", "6", "--steps", "2"),
        *("--real", real, "--features", NETWORK, "--logits", NETWORK, "--clip", clip),
        *("--size", "16", "--splits", "2", "--batch", "2", "--json", "-"),
    )
    found = cli(*arguments)
    assert found.code == 0, found.err
    document = found.json
    assert set(document["scores"]) == {
        "inception_score",
        "inception_score_std",
        "fid",
        "clip_score",
    }
    assert document["drawing"]["steps"] == 2
    assert document["drawing"]["guidance"] == 7.5
    assert document["drawing"]["executed_by"] == "diffusers"
    assert (document["count"], document["size_pixels"], document["real_images"]) == (6, 16, 8)
    assert document["features"] == NETWORK
    assert json.loads((output / "evaluation.json").read_text()) == document
    images = tree(output / "images")
    assert len(images) == 6

    again = cli(*arguments)
    assert again.json == document
    assert tree(output / "images") == images
    other = cli(*arguments[:-2], "--guidance", "1")
    assert other.code == 2
    assert "another model or other settings" in other.err


@pytest.mark.parametrize(
    ("arguments", "executor"), [((), "npu"), (("--reference",), "onnxruntime")]
)
def test_a_bundle_is_scored(
    cli: Cli,
    calibrated: Path,
    tmp_path: Path,
    prompts: Path,
    arguments: tuple[str, ...],
    executor: str,
) -> None:
    found = cli(
        *("evaluate", calibrated, "--captions", prompts, "-o", tmp_path / "out", "--count", "1"),
        *("--metrics", "is", "--logits", NETWORK, "--size", "16", "--splits", "1"),
        *(*arguments, "--json", "-"),
    )
    assert found.code == 0, found.err
    assert found.json["drawing"]["executed_by"] == executor
    assert found.json["drawing"]["steps"] == 2
    assert found.json["drawing"]["guidance"] is None
    assert found.json["scores"]["inception_score"] == pytest.approx(1)
    assert found.json["scores"]["inception_score_std"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--metrics", "best"), 2, "some of is, fid, clip"),
        (("--metrics", "fid"), 2, "--real"),
        (("--metrics", "clip"), 2, "--clip"),
        (("--metrics", "is"), 3, "expected a diffusers pipeline"),
    ],
)
def test_bad_requests_are_refused(
    cli: Cli, tmp_path: Path, prompts: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    found = cli(
        "evaluate", tmp_path / "absent", "--captions", prompts, "-o", tmp_path / "o", *arguments
    )
    assert found.code == code
    assert said in found.err
    assert not (tmp_path / "o").exists()
