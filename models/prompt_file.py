"""The file of prompts that ``--prompts`` names: UTF-8, one prompt a line."""

from __future__ import annotations

from pathlib import Path

from edgefusion.runtime.errors import InputError

_COMMENT = "#"


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts in order, without blank lines and lines that begin with #.

    Raises InputError for a file that cannot be read, is no UTF-8 text, or holds no prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is no UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}. "
            "Expected prompts, one a line; save the file as UTF-8."
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot read the prompts in {path}: {reason}.") from error
    stripped = (line.strip() for line in lines)
    prompts = tuple(line for line in stripped if line and not line.startswith(_COMMENT))
    if not prompts:
        raise InputError(
            f"{path} holds no prompt. Expected one a line; blank lines and lines that begin with "
            f"{_COMMENT} are skipped."
        )
    return prompts
