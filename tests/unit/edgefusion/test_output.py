"""Progress: plain lines without a terminal, warnings that stay with one."""

from __future__ import annotations

import pytest

from edgefusion.cli.output import progress


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


def test_warnings_stay_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress() as say:
        say("warning: the end is left out")
        say("working")
    assert "warning: the end is left out\n" in capsys.readouterr().err
