"""Shell completion, asked as bash asks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.cli.main import main


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("edgefusion com", ["compile"]),
        ("edgefusion compile --rem", ["--remarks"]),
        ("edgefusion data ch", ["check"]),
        ("edgefusion compile bk-sdm-s", ["bk-sdm-small"]),
        ("edgefusion compile mod", ["models/"]),
        ("edgefusion compile models/", ["models/my/", "models/net.onnx"]),
        ("edgefusion compile x -o y --target exy", ["exynos2400"]),
        ("edgefusion compile x -o y --schedule p", ["pipelined"]),
        ("edgefusion presets mini", ["miniature"]),
        ("edgefusion verify b", ["b.npub"]),
        ("edgefusion verify ~nobody-at-all/", []),
    ],
)
def test_bash_is_offered(
    line: str,
    offered: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "models" / "my").mkdir(parents=True)
    for name in ("models/net.onnx", "models/notes.txt", "models/.hidden.onnx", "b.npub", "b.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_EDGEFUSION_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    with pytest.raises(SystemExit) as ended:
        main([])
    captured = capsys.readouterr()
    assert (ended.value.code or 0, captured.err) == (0, "")
    assert captured.out.split() == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_shown(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)  # of the processes above
    with pytest.raises(SystemExit) as ended:
        main(["--show-completion"])
    assert not ended.value.code
    assert "_EDGEFUSION_COMPLETE" in capsys.readouterr().out
