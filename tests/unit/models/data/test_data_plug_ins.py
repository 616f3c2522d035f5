"""The plug-ins that libraries provide, on models small enough to be made here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgefusion.models.clip import clip_scorer
from edgefusion.models.data.captioner import captioner_from_folder
from edgefusion.models.data.captions import captions_cut, open_tokenizer
from edgefusion.models.data.prompts import ChatPrompts, prompts_from_file
from edgefusion.models.pipeline_generator import pipeline_generator
from edgefusion.models.plug_ins import listed, named_function, named_object
from edgefusion.runtime.errors import InputError, UsageError
from tests.data_cases import brightest, picture
from tests.model_folders import blip_folder, clip_folder, pipeline_folder, tokenizer_files


def test_clip_scores_are_cosines_of_the_library(tmp_path: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = clip_folder(tmp_path)
    images = [picture(i, 50, 50) for i in range(3)]
    scores = clip_scorer(folder)(images, "a b a")
    model = CLIPModel.from_pretrained(folder).eval()
    tokens = CLIPTokenizer.from_pretrained(folder)(["a b a"], return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images, return_tensors="pt")
    with torch.no_grad():
        both = model(**tokens, pixel_values=pixels["pixel_values"])
    expected = (both.logits_per_image[:, 0] / model.logit_scale.exp()).detach().numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert len(set(scores)) == 3
    assert clip_scorer(folder)(images, "b " * 200), "long captions are cut, not refused"


def test_a_captioner_describes_each_image(tmp_path: Path) -> None:
    captioner = captioner_from_folder(blip_folder(tmp_path))
    captions = captioner([picture(1), picture(2)])
    assert len(captions) == 2
    assert all(isinstance(caption, str) for caption in captions)
    assert list(captions) == list(captioner([picture(1), picture(2)]))


def test_a_pipeline_draws_from_each_images_seed_alone(tmp_path: Path) -> None:
    generator = pipeline_generator(pipeline_folder(tmp_path), steps=2, guidance=3.0)
    one, two = generator(["a", "b"], [3, 4])
    (again,) = generator(["b"], [4])
    (other,) = generator(["b"], [5])
    assert one.mode == "RGB"
    np.testing.assert_allclose(np.asarray(two, int), np.asarray(again, int), atol=1)
    assert not np.array_equal(np.asarray(two), np.asarray(other))


@pytest.mark.parametrize(
    "make",
    [
        clip_scorer,
        captioner_from_folder,
        lambda folder: pipeline_generator(folder, steps=1, guidance=1),
    ],
)
def test_without_weights_the_error_says_what_is_wanted(tmp_path: Path, make: Any) -> None:
    with pytest.raises(InputError, match="nothing is downloaded"):
        make(tmp_path / "absent")
    with pytest.raises(InputError, match="save_pretrained"):
        make(tmp_path)


def test_captions_are_counted_by_the_pipelines_tokenizer(tmp_path: Path) -> None:
    for name, content in tokenizer_files().items():
        (tmp_path / name).write_bytes(content)
    tokenizer = open_tokenizer(tmp_path)
    assert captions_cut(["a " * 75, "a " * 76, "b"], tokenizer) == 1
    assert captions_cut(["a"], None) is None
    with pytest.raises(InputError, match="no CLIP tokenizer"):
        open_tokenizer(tmp_path / "absent")


def test_prompts_come_from_files(tmp_path: Path) -> None:
    lines = tmp_path / "p.txt"
    lines.write_text("one\n\n two \nthree\n")
    assert list(prompts_from_file(lines)(1, 5)) == ["two", "three"]
    rows = tmp_path / "p.jsonl"
    rows.write_text('{"text": "one"}\n{"prompt": "two"}\n')
    with pytest.raises(InputError, match="row 2 has no text"):
        prompts_from_file(rows)
    with pytest.raises(InputError, match="cannot be read"):
        prompts_from_file(tmp_path / "absent")


class Server(HTTPServer):
    """Answers ``replies`` (status, body) in turn and notes what it was asked."""

    def __init__(self, replies: list[tuple[int, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies, self.asked = replies, list[Any]()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], json.loads(body)))
        status, reply = self.server.replies.pop(0)
        content = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@contextmanager
def serving(replies: list[tuple[int, Any]]) -> Iterator[Server]:
    with Server(replies) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def said(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}}]}


def test_a_server_is_asked_for_prompts_again_if_it_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    answer = said("1. a fox\n- a hare\n\n30 owls at night\n")
    with serving([(503, {}), (200, answer)]) as server:
        ask = ChatPrompts(
            f"http://127.0.0.1:{server.server_port}/v1/",
            "tiny",
            "{count} from {first} to {last}",
            "MY_KEY",
            seed=7,
        )
        assert ask(10, 3) == ["a fox", "a hare", "30 owls at night"]
    path, key, body = server.asked[1]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert body["messages"] == [{"role": "user", "content": "3 from 11 to 13"}]
    assert (body["model"], body["seed"]) == ("tiny", 17)
    assert "secret" not in repr(ask)


@pytest.mark.parametrize(
    ("reply", "text"),
    [((200, {"error": "x"}), "choices"), ((401, {}), "401.*key in OPENAI_API_KEY")],
)
def test_answers_of_another_kind_are_errors(reply: tuple[int, Any], text: str) -> None:
    with serving([reply]) as server, pytest.raises(InputError, match=text):
        ChatPrompts(f"http://127.0.0.1:{server.server_port}/v1", "tiny")(0, 1)


def test_objects_are_found_by_name() -> None:
    assert named_object("tests.data_cases:brightest") is brightest
    for name in ("nowhere_at_all:x", "tests.data_cases:absent", "tests.data_cases"):
        with pytest.raises(UsageError, match=name):
            named_object(name)


def test_what_a_named_function_raises_is_told_as_its_own() -> None:
    with pytest.raises(InputError, match=r"math:fsum failed .*TypeError.*not a part of"):
        named_function("math:fsum")(3)
    with pytest.raises(UsageError, match="int; expected something callable"):
        named_function("sys:maxsize")


def test_a_module_that_fails_on_import_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_tool.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"broken_tool failed .*ZeroDivisionError"):
        named_object("broken_tool:caption")


def test_what_is_no_sequence_is_told() -> None:
    with pytest.raises(InputError, match="the captioner gave a int; expected a sequence"):
        listed("captioner", 3)
