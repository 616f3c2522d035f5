from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from edgefusion.models.evaluation.drawing import claim, draw_missing, image_path
from edgefusion.models.evaluation.prompts import evaluation_prompts
from edgefusion.runtime.errors import DoesNotFitError, InputError, UsageError
from tests.data_cases import picture, tree

PROMPTS = [f"prompt {i}" for i in range(7)]


class Batched:
    """A generator whose images depend on their batch; fails at call number ``last``."""

    def __init__(self, last: int = 0) -> None:
        self.last, self.calls = last, 0

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int], /) -> list[Image.Image]:
        self.calls += 1
        if self.calls == self.last:
            raise KeyboardInterrupt
        return [picture(seed * 100 + len(prompts), 16, 16) for seed in seeds]


def test_drawing_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    paths = draw_missing(whole, PROMPTS, 5, Batched(), batch=3)
    assert paths == [image_path(whole, prompt, 5 + i) for i, prompt in enumerate(PROMPTS)]
    with pytest.raises(KeyboardInterrupt):
        draw_missing(parts, PROMPTS, 5, Batched(last=3), batch=3)
    assert len(tree(parts)) == 6
    image_path(parts, PROMPTS[1], 6).unlink()  # as if killed in the middle of the first batch
    rest = Batched()
    draw_missing(parts, PROMPTS, 5, rest, batch=3)
    assert rest.calls == 2
    assert tree(parts) == tree(whole)
    none = Batched()
    draw_missing(parts, PROMPTS, 5, none, batch=3)
    assert none.calls == 0


def test_a_full_disk_keeps_what_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def full(descriptor: int) -> None:
        if len(tree(tmp_path)) == 5:  # the fifth is being written
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DoesNotFitError, match="What was done is kept"):
        draw_missing(tmp_path, PROMPTS, 0, Batched(), batch=3)
    assert len(tree(tmp_path)) == 4


def test_more_prompts_keep_the_images_of_the_first(tmp_path: Path) -> None:
    draw_missing(tmp_path, PROMPTS[:6], 0, Batched(), batch=3)
    more = Batched()
    draw_missing(tmp_path, PROMPTS, 0, more, batch=3)
    assert more.calls == 1


def test_a_prompt_that_comes_twice_is_drawn_twice(tmp_path: Path) -> None:
    one, two = draw_missing(tmp_path, ["a", "a"], 0, Batched(), batch=1)
    assert one.read_bytes() != two.read_bytes()


def test_a_folder_serves_one_model(tmp_path: Path) -> None:
    claim(tmp_path / "a", {"steps": 2})
    claim(tmp_path / "a", {"steps": 2})
    with pytest.raises(UsageError, match="another model or other settings"):
        claim(tmp_path / "a", {"steps": 4})
    with pytest.raises(UsageError, match="not empty"):
        claim(tmp_path, {"steps": 4})


def test_a_model_that_draws_too_few_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 images for 2 prompts"):
        draw_missing(tmp_path, ["a", "b"], 0, lambda _p, _s: [], batch=2)


def test_coco_captions_are_drawn_by_seed(tmp_path: Path) -> None:
    path = tmp_path / "captions_val2014.json"
    rows = [{"id": 99 - i, "image_id": 1, "caption": f"caption {99 - i}\n"} for i in range(100)]
    path.write_text(json.dumps({"images": [], "annotations": rows}))
    one = evaluation_prompts(path, 10, seed=1)
    assert one == evaluation_prompts(path, 10, seed=1)
    assert one != evaluation_prompts(path, 10, seed=2)
    assert len(set(one)) == 10
    numbers = [int(caption.split()[1]) for caption in one]
    assert numbers == sorted(numbers)
    assert len(evaluation_prompts(path, 100)) == 100
    with pytest.raises(InputError, match="holds 100 captions; expected at least 101"):
        evaluation_prompts(path, 101)


def test_lists_are_taken_from_the_start(tmp_path: Path) -> None:
    table = tmp_path / "x.csv"
    table.write_text('id,caption\n1,"a, b"\n2,c\n')
    assert evaluation_prompts(table, 1, column="caption") == ["a, b"]
    with pytest.raises(InputError, match="no column text; it has id, caption"):
        evaluation_prompts(table, 1)
    lines = tmp_path / "x.txt"
    lines.write_text("one\ntwo\n")
    assert evaluation_prompts(lines, 2) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.json", "{", "no file of COCO captions"),
        ("x.json", '{"annotations": [{"id": 1}]}', "caption"),
        ("x.json", '{"annotations": [{"id": 1, "caption": " "}]}', "caption 1 of 1 is empty"),
        ("x.csv", "text\n\na\n", ""),
    ],
)
def test_bad_caption_files_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    if said:
        with pytest.raises(InputError, match=said):
            evaluation_prompts(path, 1)
    else:
        assert evaluation_prompts(path, 1) == ["a"]
