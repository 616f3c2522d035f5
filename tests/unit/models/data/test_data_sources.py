from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from edgefusion.models.data.check import check
from edgefusion.models.data.dataset import open_dataset
from edgefusion.models.data.images import UnreadableImageError, decoded, encoded
from edgefusion.models.data.pack import pack
from edgefusion.models.data.stage import run_stage
from edgefusion.models.tokenization import HashingTokenizer
from edgefusion.runtime.errors import InputError
from tests.data_cases import image_folder, picture, plain_folder, png


def test_columns_are_found_by_name_and_lines_keep_their_order(tmp_path: Path) -> None:
    good = png(picture(1))
    rows = [("b.png", good, " two\n words "), ("a.png", good, None), ("c.png", good, 3)]
    found = list(open_dataset(image_folder(tmp_path / "d", rows), "caption"))
    assert [(s.key, s.caption) for s in found] == [
        ("b.png", "two words"),
        ("a.png", ""),
        ("c.png", ""),
    ]
    assert found[0].read() == good


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"file_name": "a.png"}\n', "no column text; it has file_name"),
        ('{"file_name": "a.png", "text": ""}\n{nonsense\n', "line 2: no JSON"),
        ("[]\n", "found a list"),
        ('{"text": "x"}\n', "expected file_name"),
        ('{"file_name": "../a.png", "text": "x"}\n', "inside the folder"),
        ('{"file_name": "a", "text": "x"}\n{"file_name": "a", "text": "x"}\n', "listed twice"),
    ],
)
def test_bad_listings_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "metadata.jsonl").write_text(text)
    with pytest.raises(InputError, match=said):
        open_dataset(tmp_path)


def test_images_with_caption_files_are_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "x.jpg").write_bytes(encoded(picture(1), "jpeg"))
    (tmp_path / "0" / "x.txt").write_text("a hill\n")
    (tmp_path / "0" / "y.png").write_bytes(png(picture(2)))
    assert [(s.key, s.caption) for s in open_dataset(tmp_path)] == [
        ("0/x.jpg", "a hill"),
        ("0/y.png", ""),
    ]


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no metadata\.jsonl, no images"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match="no dataset"):
        open_dataset(tmp_path / "absent")


def test_shards_hold_what_was_packed_and_are_the_same_each_time(tmp_path: Path) -> None:
    one, two = plain_folder(tmp_path / "one", 5), plain_folder(tmp_path / "two", 2)
    datasets = [open_dataset(path, "caption") for path in (one, two)]
    for name in ("x", "y"):
        run_stage(
            tmp_path / name, "shards", "", "", {}, lambda s: pack(s, datasets, shard_samples=3)
        )
    names = [f"shard-00000{i}.tar" for i in range(3)]
    for name in names:
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()
    with tarfile.open(tmp_path / "x" / names[0]) as archive:
        assert sorted(archive.getnames())[:2] == ["00000000.png", "00000000.txt"]
    found = list(open_dataset(tmp_path / "x"))
    expected = [sample for dataset in datasets for sample in dataset]
    assert [s.caption for s in found] == [s.caption for s in expected]
    assert [s.read() for s in found] == [s.read() for s in expected]
    assert found[3].key == "shard-000001/00000003"


def test_captions_in_json_members_go_first(tmp_path: Path) -> None:
    members = {
        "0.jpg": b"image",
        "0.txt": b"from txt",
        "0.json": b'{"caption": "from json"}',
        "1.txt": b"no image",
    }
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert [s.caption for s in open_dataset(tmp_path, "caption")] == ["from json", "no image"]
    assert [s.caption for s in open_dataset(tmp_path / "a.tar")] == ["from txt", "no image"]
    assert [s.read() for s in open_dataset(tmp_path)] == [b"image", b""]


def test_a_member_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("0.jpg", "0.txt", "0.jpg"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(InputError, match=r"holds 0\.jpg twice"):
        list(open_dataset(tmp_path))


def test_a_cut_off_shard_is_an_error_that_names_it(tmp_path: Path) -> None:
    dataset = open_dataset(plain_folder(tmp_path / "d", 3), "caption")
    run_stage(tmp_path / "s", "shards", "", "", {}, lambda s: pack(s, [dataset]))
    shard = tmp_path / "s" / "shard-000000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"shard-000000\.tar is no whole shard"):
        list(open_dataset(tmp_path / "s"))


def test_transparent_and_turned_images_are_made_plain() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert decoded(png(clear)).getpixel((0, 0)) == (255, 255, 255)
    sink, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture(1, 20, 10).save(sink, "JPEG", exif=exif)
    assert decoded(sink.getvalue()).size == (10, 20)


@pytest.mark.parametrize("damage", ["cut", "text", "bomb"])
def test_what_is_no_whole_image_is_unreadable(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = png(picture(1))
    if damage == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    else:
        content = content[: len(content) // 2] if damage == "cut" else b"<html>"
    with pytest.raises(UnreadableImageError):
        decoded(content)


def test_check_counts_faults_sizes_and_long_captions(tmp_path: Path) -> None:
    rows = [
        ("a.png", png(picture(1, 100, 40)), "one two three four"),
        ("b.png", b"broken", "short"),
        ("c.png", None, "short"),
        ("d.png", png(picture(2, 20, 80)), ""),
    ]
    dataset = open_dataset(image_folder(tmp_path, rows), "caption")
    found = check(dataset, tokenizer=HashingTokenizer(100, 5))
    assert found["samples"] == 4
    assert found["faults"] == {"missing caption": 1, "missing image": 1, "unreadable image": 1}
    assert found["shorter_side_pixels"]["percentile_0"] == 20
    assert found["shorter_side_pixels"]["percentile_100"] == 40
    assert (found["captions"], found["captions_cut"]) == (3, 1)
    assert check(dataset)["captions_cut"] is None
