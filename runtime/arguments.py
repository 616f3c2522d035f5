"""What public functions are given, checked before it is used: names, and lists of them.

A text is a sequence of characters, so ``components="unet"`` would ask for components "u", "n", ...
in silence. Every function that takes names takes one by itself, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from edgefusion.runtime.errors import UsageError


def names_of(given: object, what: str, each: str = "name") -> tuple[str, ...]:
    """``given`` as names: a single text is one. ``what`` names the argument in errors, ``each``
    what one of it is.

    Raises UsageError for anything but texts.
    """
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Iterable) or isinstance(names, bytes | bytearray):
        raise UsageError(f"{what} is {brief(given)}; expected a {each}, or a list of {each}s.")
    found = []
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"{what} holds {brief(name)}; expected {each}s, which are texts.")
        found.append(name)
    return tuple(found)


def whole_number(given: object, what: str, *, least: int) -> int:
    """``given`` where it is a whole number of ``least`` or more; UsageError for anything else."""
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        raise UsageError(f"{what} is {brief(given)}; expected a whole number.")
    number = int(given.__index__())
    if number < least:
        raise UsageError(f"{what} is {number}; expected {least} or more.")
    return number


def path_of(given: object, what: str) -> Path:
    """``given`` as a path; UsageError for anything that is none."""
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else b""
    if isinstance(text, str) and text and "\0" not in text:
        return Path(text)
    raise UsageError(f"{what} is {brief(given)}; expected the path of a file.")


def brief(given: object, characters: int = 60) -> str:
    """A value as an error quotes it: with its type where it has no short text of its own."""
    if given is None:
        return "None"
    text = repr(given)
    if len(text) > characters or "\n" in text or text.startswith("<"):
        return f"a {type(given).__name__}"
    return text
