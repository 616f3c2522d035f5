from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.models.prompt_file import read_prompts
from edgefusion.runtime.errors import InputError


def test_one_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    text = "# foxes\r\na fox, #1 of its kind\n\n  \t\n  un renard à Genève \n#a ship\n赤い狐"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_prompts(file) == ("a fox, #1 of its kind", "un renard à Genève", "赤い狐")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no prompt"),
        (b"# nothing\n\n", "holds no prompt"),
        (b"a fox\nG\xe9n\xe8ve", "byte 7 is 0xe9"),
        (None, "No such file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_prompts(file)


def test_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the prompts"):
        read_prompts(tmp_path)
