"""What each stage keeps, drops and says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgefusion.models.data.contact_sheets import contact_sheets
from edgefusion.models.data.crops import square_boxes
from edgefusion.models.data.curate import curate, read_decisions
from edgefusion.models.data.dataset import open_dataset
from edgefusion.models.data.duplicates import first_alike, perceptual_hash
from edgefusion.models.data.images import decoded, encoded
from edgefusion.models.data.preprocess import PreprocessSettings, centre_scorer, preprocess
from edgefusion.models.data.recaption import recaption
from edgefusion.models.data.report import Report
from edgefusion.models.data.stage import Result, Stage, run_stage
from edgefusion.models.data.synthesize import SynthesisSettings, synthesize
from edgefusion.models.tokenization import HashingTokenizer
from edgefusion.runtime.errors import InputError
from tests.data_cases import (
    brightest,
    colours,
    draw,
    image_folder,
    jsonl,
    keep_even,
    picture,
    plain_folder,
    png,
)


def run(output: Path, body: Callable[[Stage], Result]) -> Report:
    return run_stage(output, "test", "source", "", {}, body)


def raw(tmp_path: Path) -> Path:
    """One sample for each reason, and three good ones."""
    same = picture(1, 60, 40)
    return image_folder(
        tmp_path / "raw",
        [
            ("good.png", png(same), "a good one"),
            ("again.png", png(same.resize((90, 60))), "the same, larger"),
            ("small.png", png(picture(2, 60, 29)), "small"),
            ("least.png", png(picture(3, 30, 60)), "of the least size"),
            ("cut.png", png(picture(4))[:99], "cut off"),
            ("absent.png", None, "no file"),
            ("mute.png", png(picture(5)), "  "),
            ("ugly.png", png(picture(6)), "ugly"),
            ("square.png", png(picture(7, 40, 40)), "one two three four five"),
        ],
    )


def test_preprocessing_counts_every_reason(tmp_path: Path) -> None:
    settings = PreprocessSettings(least_pixels=30, size_pixels=36, removed=("ugly.png",))
    dataset = open_dataset(raw(tmp_path), "caption")
    tokenizer = HashingTokenizer(100, 6)
    report = run(
        tmp_path / "out",
        lambda s: preprocess(s, dataset, settings, brightest, tokenizer=tokenizer),
    )
    assert (report.samples_in, report.samples_out) == (9, 3)
    assert report.dropped == {
        "duplicate": 1,
        "missing caption": 1,
        "missing image": 1,
        "removed by hand": 1,
        "smaller than 30 pixels": 1,
        "unreadable image": 1,
    }
    assert report.captions_cut == 1
    rows = jsonl(tmp_path / "out" / "metadata.jsonl")
    assert [row["source_key"] for row in rows] == ["good.png", "least.png", "square.png"]
    assert rows[0]["text"] == "a good one"
    dropped = {row["key"]: row for row in jsonl(tmp_path / "out" / "dropped.jsonl")}
    assert dropped["again.png"]["of"] == "good.png"
    assert dropped["small.png"]["height_pixels"] == 29
    sizes = []
    for sample in open_dataset(tmp_path / "out"):
        assert sample.path
        with Image.open(sample.path) as image:
            sizes.append(image.size)
    assert sizes == [(36, 36), (30, 30), (36, 36)]


def test_the_crop_that_scores_best_is_cut(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 150, 90, dtype=np.uint8)[:, None, None], (1, 30, 3))
    down, up = (ramp + np.asarray(picture(i, 30, 90)) // 4 for i in range(2))
    up = up[::-1].copy()
    right = ramp.transpose(1, 0, 2) + np.asarray(picture(2, 90, 30)) // 4
    images = {
        name: Image.fromarray(a) for name, a in (("down", down), ("up", up), ("right", right))
    }
    folder = image_folder(
        tmp_path / "d", [(f"{name}.png", png(image), name) for name, image in images.items()]
    )
    settings = PreprocessSettings(least_pixels=1)
    dataset = open_dataset(folder, "caption")
    report = run(tmp_path / "out", lambda s: preprocess(s, dataset, settings, brightest))
    rows = jsonl(tmp_path / "out" / "metadata.jsonl")
    assert [row["crop"] for row in rows] == ["end", "start", "end"]
    assert report.facts["crops"] == {"end": 2, "start": 1}
    with Image.open(tmp_path / "out" / rows[1]["file_name"]) as cut:
        assert np.array_equal(np.asarray(cut), up[:30])
    run(tmp_path / "centre", lambda s: preprocess(s, dataset, settings, centre_scorer))
    assert {row["crop"] for row in jsonl(tmp_path / "centre" / "metadata.jsonl")} == {"centre"}


def test_boxes_lie_at_the_centre_and_the_ends() -> None:
    assert square_boxes(100, 40) == {
        "centre": (30, 0, 70, 40),
        "start": (0, 0, 40, 40),
        "end": (60, 0, 100, 40),
    }
    assert square_boxes(40, 41) == {
        "centre": (0, 0, 40, 40),
        "start": (0, 0, 40, 40),
        "end": (0, 1, 40, 41),
    }
    assert square_boxes(7, 7) == {"centre": (0, 0, 7, 7)}


@pytest.mark.parametrize("scores", [[1.0], [1.0, float("nan"), 0.0]])
def test_scorers_are_held_to_their_word(tmp_path: Path, scores: list[float]) -> None:
    dataset = open_dataset(plain_folder(tmp_path / "d", 1), "caption")
    settings = PreprocessSettings(least_pixels=1)
    with pytest.raises(InputError, match="one finite number each"):
        run(tmp_path / "o", lambda s: preprocess(s, dataset, settings, lambda _c, _t: scores))


def test_a_removal_list_with_a_slip_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset(plain_folder(tmp_path / "d", 1), "caption")
    settings = PreprocessSettings(removed=("000.png", "slip.png"))
    with pytest.raises(InputError, match=r"1 samples .* first slip\.png"):
        run(tmp_path / "o", lambda s: preprocess(s, dataset, settings, centre_scorer))


def test_only_kept_images_have_duplicates() -> None:
    # 0 and 1 differ in 2 bits, 1 and 2 in 2, 0 and 2 in 4
    hashes = [f"{value:016x}" for value in (0b0000, 0b0011, 0b1111, 0b0000)]
    assert first_alike(hashes, 0) == [None, None, None, 0]
    assert first_alike(hashes, 2) == [None, 0, None, 0]
    assert first_alike(hashes, 4) == [None, 0, 0, 0]
    assert first_alike([], 4) == []


def test_hashes_see_through_size_and_compression() -> None:
    image = picture(3, 200, 150)
    alike = [image, image.resize((100, 75)), decoded(encoded(image, "jpeg"))]
    others = [picture(seed, 200, 150) for seed in range(4, 24)]
    hashes = [perceptual_hash(picture) for picture in (*alike, *others)]
    bits = PreprocessSettings().duplicate_bits
    assert first_alike(hashes, bits) == [None, 0, 0] + [None] * len(others)


def test_recaptioning_keeps_files_and_old_captions(tmp_path: Path) -> None:
    rows = [
        ("a.png", png(picture(1)), "old"),
        ("b.png", b"broken", "x"),
        ("c.png", png(picture(2)), None),
        ("d.png", png(picture(3)), "dull"),
    ]
    dataset = open_dataset(image_folder(tmp_path / "d", rows), "caption")

    def captioner(images: Sequence[Image.Image]) -> list[str]:
        return ["" if image.tobytes() == picture(3).tobytes() else "new" for image in images]

    report = run(tmp_path / "out", lambda s: recaption(s, dataset, captioner, batch=3))
    assert report.dropped == {"no caption made": 1, "unreadable image": 1}
    found = jsonl(tmp_path / "out" / "metadata.jsonl")
    assert [(r["source_key"], r["text"], r["source_text"]) for r in found] == [
        ("a.png", "new", "old"),
        ("c.png", "new", ""),
    ]
    assert (tmp_path / "out" / found[0]["file_name"]).read_bytes() == rows[0][1]
    with pytest.raises(InputError, match="gave 1 captions for 3 images"):
        run(tmp_path / "no", lambda s: recaption(s, dataset, lambda _i: ["one"], batch=4))


def test_synthesis_drops_repeated_empty_and_blank(tmp_path: Path) -> None:
    lines = ["A fox", "a  FOX", " ", "blank", "a hare"]
    settings = SynthesisSettings(count=9, seed=5, request=2)

    def prompts(start: int, count: int) -> list[str]:
        return lines[start : start + count]

    report = run(tmp_path / "out", lambda s: synthesize(s, settings, prompts, draw))
    assert (report.samples_in, report.samples_out) == (5, 2)
    assert report.dropped == {"empty prompt": 1, "image of one colour": 1, "repeated prompt": 1}
    rows = jsonl(tmp_path / "out" / "metadata.jsonl")
    assert [(row["text"], row["seed"]) for row in rows] == [("A fox", 5), ("a hare", 9)]
    with Image.open(tmp_path / "out" / rows[1]["file_name"]) as image:
        assert image.tobytes() == picture(9, 16, 16).tobytes()
    with pytest.raises(InputError, match="no prompt at all"):
        run(tmp_path / "no", lambda s: synthesize(s, settings, lambda _s, _c: [], draw))


def test_sheets_show_all_and_their_table_curates(tmp_path: Path) -> None:
    dataset = open_dataset(plain_folder(tmp_path / "d", 5), "caption")
    run(tmp_path / "sheets", lambda s: contact_sheets(s, dataset, columns=2, rows=2, pixels=32))
    pages = sorted((tmp_path / "sheets" / "sheets").iterdir())
    assert [page.name for page in pages] == ["sheet-0001.png", "sheet-0002.png"]
    with Image.open(pages[0]) as page, Image.open(tmp_path / "d" / "000.png") as first:
        first.thumbnail((32, 32))
        shown = page.crop((6, 6, 6 + first.width, 6 + first.height))
        assert shown.tobytes() == first.convert("RGB").tobytes()

    table = tmp_path / "sheets" / "keep.csv"
    lines = table.read_text().splitlines()
    assert lines[:2] == ["number,key,keep,text", "1,000.png,,caption 0"]
    lines[1] = "1,000.png,Yes,caption 0"
    lines[2] = '2,001.png,no,"caption, 1"'
    lines[3] = '3,002.png,y,"a corrected, longer one"'
    table.write_text("\n".join(lines[:5]) + "\n")  # and the last is gone: undecided
    report = run(tmp_path / "out", lambda s: curate(s, dataset, read_decisions(table)))
    assert report.dropped == {"removed by the curator": 1, "undecided": 2}
    assert report.facts == {"captions_corrected": 1}
    rows = jsonl(tmp_path / "out" / "metadata.jsonl")
    assert [row["text"] for row in rows] == ["caption 0", "a corrected, longer one"]


def test_any_callable_curates(tmp_path: Path) -> None:
    dataset = open_dataset(plain_folder(tmp_path / "d", 3), "caption")
    report = run(tmp_path / "out", lambda s: curate(s, dataset, keep_even))
    assert report.samples_out == 2
    found = list(open_dataset(tmp_path / "out"))
    assert [sample.caption for sample in found] == ["CAPTION 0", "CAPTION 2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key,text\n", "no column keep"),
        ("key,keep,text\na,maybe,\n", "line 2: keep is 'maybe'"),
        ("key,keep,text\na,yes,\na,no,\n", "line 3: a comes twice"),
    ],
)
def test_bad_decisions_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keep.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_decisions(path)


def test_a_stage_reads_what_another_packed(tmp_path: Path) -> None:
    from edgefusion.models.data.pack import pack

    dataset = open_dataset(plain_folder(tmp_path / "d", 4), "caption")
    run(tmp_path / "shards", lambda s: pack(s, [dataset], shard_samples=3))
    packed = open_dataset(tmp_path / "shards")
    found: list[Any] = []
    for name, source in (("one", dataset), ("two", packed)):
        run(tmp_path / name, lambda s, source=source: recaption(s, source, colours, batch=2))
        found.append(
            [(r["file_name"], r["text"]) for r in jsonl(tmp_path / name / "metadata.jsonl")]
        )
    assert found[0] == found[1]
