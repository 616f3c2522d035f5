"""``edgefusion data``: the paper's stages one after the other, as a user types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.models.data.dataset import open_dataset
from tests.data_cases import jsonl, plain_folder, tree
from tests.e2e.conftest import Cli
from tests.model_folders import tokenizer_files

FAKES = "tests.data_cases"


def test_the_papers_stages(cli: Cli, tmp_path: Path) -> None:
    raw = plain_folder(tmp_path / "L-orig", 6)
    (raw / "003.png").write_bytes(b"broken")
    words = tmp_path / "tokenizer"
    words.mkdir()
    for name, content in tokenizer_files().items():
        (words / name).write_bytes(content)
    column = ("--caption-column", "caption")

    found = cli("data", "check", raw, *column, "--tokenizer", words, "--json", "-")
    assert found.code == 0, found.err
    assert found.json["faults"] == {"unreadable image": 1}
    assert found.json["captions_cut"] == 0

    arguments = ("data", "preprocess", raw, "-o", tmp_path / "L-pp", *column)
    arguments += ("--scorer", f"{FAKES}:brightest", "--least-pixels", "40", "--json", "-")
    found = cli(*arguments)
    assert found.code == 0, found.err
    assert found.json["stage"] == "L-pp"
    assert (found.json["samples_in"], found.json["samples_out"]) == (6, 5)
    assert found.json["settings"]["least_pixels"] == 40
    before = tree(tmp_path / "L-pp")
    assert cli(*arguments).json == found.json
    assert tree(tmp_path / "L-pp") == before

    found = cli(
        *("data", "recaption", tmp_path / "L-pp", "-o", tmp_path / "L-pps", "--batch", "2"),
        *("--captioner", f"{FAKES}:colours", "--tokenizer", words),
    )
    assert found.code == 0, found.err
    assert "captions CLIP cuts" in found.out
    assert jsonl(tmp_path / "L-pps" / "metadata.jsonl")[0]["source_text"] == "caption 0"

    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a fox\nblank\na hare\nA fox\n")
    found = cli(
        *("data", "synthesize", "-o", tmp_path / "synt", "--prompts", prompts, "--count", "4"),
        *("--generator", f"{FAKES}:draw", "--image-format", "jpeg"),
    )
    assert found.code == 0, found.err
    assert "repeated prompt" in found.out

    assert cli("data", "sheet", tmp_path / "synt", "-o", tmp_path / "sheets").code == 0
    table = tmp_path / "sheets" / "keep.csv"
    table.write_text(table.read_text().replace(",,a hare", ",yes,a brown hare"))
    found = cli(
        *("data", "curate", tmp_path / "synt", "-o", tmp_path / "synt-cur"),
        *("--decisions", table, "--json", "-"),
    )
    assert found.code == 0, found.err
    assert found.json["dropped"] == {"undecided": 1}
    assert found.json["facts"] == {"captions_corrected": 1}

    parts = (tmp_path / "L-pps", tmp_path / "synt-cur")
    found = cli("data", "pack", *parts, "-o", tmp_path / "mixed", "--json", "-")
    assert found.code == 0, found.err
    captions = [sample.caption for sample in open_dataset(tmp_path / "mixed")]
    assert len(captions) == found.json["samples_out"] == 6
    assert captions[-1] == "a brown hare"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("check", "absent"), 3, "no dataset"),
        (("preprocess", "d", "-o", "o", "--scorer", "absent"), 3, "nothing is downloaded"),
        (("preprocess", "d", "-o", "o", "--scorer", "nowhere:at_all"), 2, "cannot be loaded"),
        (("preprocess", "d", "-o", "o", "--scorer", "centre", "--remove", "x"), 3, "x cannot"),
        (("preprocess", "d", "-o", "o", "--scorer", "centre", "--image-format", "gif"), 2, "png"),
        (("preprocess", "d", "-o", "d", "--scorer", "centre"), 2, "it is the same as the input d"),
        (("recaption", "d", "-o", "o", "--captioner", "absent"), 3, "nothing is downloaded"),
        (("recaption", "d", "-o", "o"), 2, "--captioner"),
        (
            (
                "synthesize",
                "-o",
                "o",
                "--prompts",
                "http://x/v1",
                "--count",
                "1",
                "--generator",
                "g",
            ),
            2,
            "--prompt-model",
        ),
        (("curate", "d", "-o", "o", "--decisions", "absent"), 3, "absent"),
    ],
)
def test_bad_requests_are_one_paragraph_and_leave_nothing(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (plain_folder(tmp_path / "d", 1) / "metadata.jsonl").write_text(
        '{"file_name": "000.png", "text": "x"}\n'
    )
    found = cli("data", *arguments)
    assert found.code == code, found.err
    assert said in found.err
    assert "Traceback" not in found.err
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_help_has_examples(cli: Cli) -> None:
    names = ("check", "preprocess", "recaption", "synthesize", "sheet", "curate", "pack")
    for name in names:
        assert "edgefusion data" in cli("data", name, "--help").out
