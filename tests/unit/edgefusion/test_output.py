"""Progress: plain lines without a terminal, warnings that stay with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.cli.output import emit, progress


def test_lines_that_differ_in_their_last_count_alone_are_thinned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress() as say:
        for step in (1, 2):
            for done in range(0, 128, 64):
                say(f"step {step} of 2; instruction {done} of 128")
        for number, name in enumerate(("fold", "fuse"), 1):
            say(f"pass {number} of 2, {name}")
    lines = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "step 1 of 2; instruction 0 of 128",
        "step 2 of 2; instruction 0 of 128",
        "pass 1 of 2, fold",
    ]


def test_lines_with_an_unknown_total_are_thinned_too(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as say:
        for number in range(1, 400):
            say(f"check: {number} of the samples")
        say("done")
    lines = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["check: 1 of the samples", "done"]


def test_warnings_are_repeated_once_after_the_result(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with progress() as say:
        for _ in range(3):
            say("warning: nothing is known of the source")
            say("working")
    emit([], dict, json_to=str(tmp_path / "x.json"), lines=["x"], warnings=say.warnings)
    captured = capsys.readouterr()
    assert captured.out == "x\n"
    assert captured.err.endswith("] working\nwarning: nothing is known of the source\n")


def test_warnings_stay_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress() as say:
        say("warning: the end is left out")
        say("working")
    assert "warning: the end is left out\n" in capsys.readouterr().err
