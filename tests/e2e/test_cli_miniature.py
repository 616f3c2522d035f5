"""``edgefusion train miniature`` from nothing to a picture, in a few steps each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from edgefusion.api import open_bundle
from edgefusion.models.source import resolve_source
from tests.e2e.conftest import Cli
from tests.training_cases import one_thread

USAGE = 2


@pytest.fixture(autouse=True)
def _single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.full
def test_the_whole_recipe_and_a_picture(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "miniature"
    command = (
        "train",
        "miniature",
        "--preset",
        "smoke",
        "--seeds",
        "1",
        "-o",
        folder,
        "--json",
        "-",
    )
    first = cli(*command)
    assert first.code == 0, first.err
    document = first.json
    claims = {row["claim"]: row for row in document["claims"]}
    assert {"Adv-Tiny is better than Tiny", "W8A16 loses nothing"} <= claims.keys()
    assert all(row["low"] <= row["difference"] <= row["high"] for row in document["claims"])
    networks = {row["network"] for row in document["scores"]}
    assert {"base", "advanced", "tiny", "few/edgefusion", "FP32", "W8A16 on the NPU"} <= networks
    table = (folder / "results.md").read_text()
    assert all(row["claim"] in table for row in document["claims"])

    # Repeated, nothing is trained and the results are the same.
    marks = {path: path.stat().st_mtime_ns for path in folder.glob("steps/**/*")}
    again = cli(*command)
    assert again.json == document
    assert marks == {path: path.stat().st_mtime_ns for path in folder.glob("steps/**/*")}

    # A repetition alone finds all that was done.
    alone = cli(*command[:-4], "--only", "0", "-o", folder, "--json", "-")
    assert alone.code == 0, alone.err
    assert {row["network"] for row in alone.json["scores"]} == networks

    # The pipeline it ends in was compiled, and its bundle draws.
    (bundle,) = folder.glob("steps/repetition-0/deployed/*/miniature.npub")
    pipeline = resolve_source(str(folder / "pipeline"))
    assert open_bundle(bundle).manifest.source.digest == pipeline.digest
    picture = tmp_path / "picture.png"
    drawn = cli("run", bundle, "--prompt", "a small red circle on blue", "-o", picture)
    assert drawn.code == 0, drawn.err
    with Image.open(picture) as image:
        assert image.size == (32, 32)


def test_an_unknown_preset(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("train", "miniature", "--preset", "huge", "-o", tmp_path / "m")
    assert outcome.code == USAGE
    assert "lean, long, pilot, smoke" in outcome.err
    assert not (tmp_path / "m").exists()
