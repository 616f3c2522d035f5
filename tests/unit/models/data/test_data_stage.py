from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgefusion.models.data.dataset import open_dataset
from edgefusion.models.data.journal import journaled
from edgefusion.models.data.preprocess import PreprocessSettings, preprocess
from edgefusion.models.data.recaption import recaption
from edgefusion.models.data.report import Report
from edgefusion.models.data.stage import Result, Stage, run_stage
from edgefusion.models.data.synthesize import SynthesisSettings, synthesize
from edgefusion.runtime.errors import DoesNotFitError, InputError, UsageError
from edgefusion.runtime.files import write_whole
from tests.data_cases import brightest, colours, draw, plain_folder, tree

Body = Callable[[Stage], Result]
SETTINGS = PreprocessSettings(least_pixels=8, size_pixels=32)
SYNTHESIS = SynthesisSettings(count=7, request=3, batch=2)


class Interrupted(BaseException):
    """As sudden as a signal."""


class Counting:
    """Calls ``inner``, and stops short at call number ``last`` (0: never)."""

    def __init__(self, inner: Callable[..., object], last: int = 0) -> None:
        self.inner, self.last, self.calls = inner, last, 0

    def __call__(self, *arguments: object) -> object:
        self.calls += 1
        if self.calls == self.last:
            raise Interrupted
        return self.inner(*arguments)


def prompts(start: int, count: int) -> list[str]:
    return [f"prompt {i}" for i in range(start, start + count)]


def bodies(folder: Path, plug_in: Counting) -> dict[str, Body]:
    dataset = open_dataset(folder, "caption")
    return {
        "crop": lambda s: preprocess(s, dataset, SETTINGS, plug_in),  # type: ignore[arg-type]
        "caption": lambda s: recaption(s, dataset, plug_in, batch=4),  # type: ignore[arg-type]
        "ask": lambda s: synthesize(s, SYNTHESIS, plug_in, draw),  # type: ignore[arg-type]
        "draw": lambda s: synthesize(s, SYNTHESIS, prompts, plug_in),  # type: ignore[arg-type]
    }


PLUG_INS = {"crop": brightest, "caption": colours, "ask": prompts, "draw": draw}


@pytest.mark.parametrize(("name", "calls"), [("crop", 10), ("caption", 3), ("ask", 3), ("draw", 4)])
def test_an_interrupted_stage_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, calls: int
) -> None:
    monkeypatch.setattr("edgefusion.models.data.preprocess._CHUNK", 2)
    folder = plain_folder(tmp_path / "d", 10)

    def run(output: Path, plug_in: Counting) -> Report:
        return run_stage(output, name, "d", "1", {"a": (1, 2)}, bodies(folder, plug_in)[name])

    whole = Counting(PLUG_INS[name])
    run(tmp_path / "whole", whole)
    assert whole.calls == calls
    with pytest.raises(Interrupted):
        run(tmp_path / "out", Counting(PLUG_INS[name], last=calls - 1))
    assert not (tmp_path / "out").exists()
    rest = Counting(PLUG_INS[name])
    run(tmp_path / "out", rest)
    assert rest.calls < calls, "what was done was done again"
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    # Once more: nothing is left to do
    again = Counting(PLUG_INS[name])
    report = run(tmp_path / "out", again)
    assert again.calls == 0
    assert report.to_json() == run(tmp_path / "whole", again).to_json()


KILLED = """
import os, signal, sys
from pathlib import Path
from edgefusion.models.data.dataset import open_dataset
from edgefusion.models.data.journal import journaled
from edgefusion.models.data.preprocess import PreprocessSettings, preprocess
from edgefusion.models.data.stage import run_stage
import edgefusion.models.data.preprocess as module
sys.path.insert(0, sys.argv[3])
from tests.data_cases import brightest
module._CHUNK = 2
real, count = os.replace, 0
def replace(self, target):
    global count
    count += 1
    if count == 8:  # settings, then images: in the middle of a chunk, before the rename
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
Path.replace = replace
dataset = open_dataset(Path(sys.argv[1]), "caption")
settings = PreprocessSettings(least_pixels=8, size_pixels=32)
def body(stage):
    return preprocess(stage, dataset, settings, brightest)
run_stage(Path(sys.argv[2]), "crop", "d", "1", {}, body)
"""


def test_a_killed_process_leaves_nothing_half(
    tmp_path: Path, repository_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgefusion.models.data.preprocess._CHUNK", 2)
    folder = plain_folder(tmp_path / "d", 10)
    output = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(folder), str(output), str(repository_root)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    partial = tmp_path / ".out.partial"
    assert partial.is_dir()
    assert not output.exists()
    halves = list((partial / "images").rglob(".*.partial"))
    assert len(halves) == 1, "the kill fell between writing and renaming"
    journal = partial / ".work" / "crop.jsonl"
    with journal.open("ab") as file:
        file.write(b'[{"file_name": "images/0')  # and a line was cut off in writing
    body = bodies(folder, Counting(brightest))["crop"]
    run_stage(output, "crop", "d", "1", {}, body)
    run_stage(tmp_path / "whole", "crop", "d", "1", {}, body)
    assert tree(output) == tree(tmp_path / "whole")


def test_a_full_disk_keeps_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefusion.models.data.preprocess._CHUNK", 2)
    folder = plain_folder(tmp_path / "d", 6)
    real = os.fsync
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    first = Counting(brightest)
    with pytest.raises(DoesNotFitError, match=r"What was done is kept in .*\.out\.partial"):
        run_stage(tmp_path / "out", "crop", "d", "1", {}, bodies(folder, first)["crop"])
    monkeypatch.setattr(os, "fsync", real)
    second = Counting(brightest)
    run_stage(tmp_path / "out", "crop", "d", "1", {}, bodies(folder, second)["crop"])
    assert 0 < second.calls < 6
    run_stage(tmp_path / "whole", "crop", "d", "1", {}, bodies(folder, second)["crop"])
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def nothing(stage: Stage) -> Result:
    return Result((), ())


def test_other_settings_are_refused(tmp_path: Path) -> None:
    def stopped(stage: Stage) -> Result:
        raise Interrupted

    with pytest.raises(Interrupted):
        run_stage(tmp_path / "out", "x", "d", "1", {"a": 1}, stopped)
    with pytest.raises(UsageError, match="unfinished work of a run with other settings"):
        run_stage(tmp_path / "out", "x", "d", "1", {"a": 2}, nothing)
    run_stage(tmp_path / "out", "x", "d", "1", {"a": 1}, nothing)
    with pytest.raises(UsageError, match="made with other settings"):
        run_stage(tmp_path / "out", "x", "d", "other source", {"a": 1}, nothing)
    with pytest.raises(UsageError, match="no result of this command"):
        run_stage(tmp_path, "x", "d", "1", {"a": 1}, nothing)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    def inner(stage: Stage) -> Result:
        with pytest.raises(InputError, match="another process"):
            run_stage(tmp_path / "out", "x", "d", "1", {}, nothing)
        return Result((), ())

    run_stage(tmp_path / "out", "x", "d", "1", {}, inner)


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "d", 4)
    body = bodies(folder, Counting(brightest, last=1))["crop"]
    with pytest.raises(Interrupted):
        run_stage(tmp_path / "out", "crop", "d", "1", {}, body)
    journal = tmp_path / ".out.partial" / ".work" / "measure.jsonl"
    journal.write_bytes(b"nonsense\n")
    with pytest.raises(InputError, match="damaged"):
        run_stage(tmp_path / "out", "crop", "d", "1", {}, body)


def test_a_line_cut_off_twice_is_mended_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'[{"n": 0}]\n[{"n"')

    def squares(first: int, items: Sequence[int]) -> list[dict[str, int]]:
        if first == 2:
            raise Interrupted
        return [{"n": n} for n in items]

    with pytest.raises(Interrupted):
        journaled(path, range(3), squares, chunk=1, tell=lambda _n: None)
    assert path.read_bytes() == b'[{"n": 0}]\n[{"n": 1}]\n'


def test_reports_refuse_to_lose_samples() -> None:
    Report("x", "", {}, 3, 2, {"small": 1})
    with pytest.raises(AssertionError, match="lost"):
        Report("x", "", {}, 3, 2, {})


def test_records_are_one_for_each_item(tmp_path: Path) -> None:
    def short(first: int, items: Sequence[int]) -> list[dict[str, object]]:
        return []

    def body(stage: Stage) -> Result:
        stage.mapped("x", range(3), short, chunk=2)
        return Result((), ())

    with pytest.raises(AssertionError, match="2 items gave 0"):
        run_stage(tmp_path / "out", "x", "", "", {}, body)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    write_whole(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert tree(tmp_path) == {"x.json": b"old"}


def test_the_report_on_disk_is_the_report(tmp_path: Path) -> None:
    def body(stage: Stage) -> Result:
        return Result([{"file_name": "a"}], [{"key": "b", "reason": "small"}])

    report = run_stage(tmp_path / "out", "x", "d", "1", {"a": 1}, body)
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found == report.to_json() | {"source_digest": "1"}
    assert (found["samples_in"], found["samples_out"], found["dropped"]) == (2, 1, {"small": 1})
