"""How long work says what it is doing: a line of text at a time, to whoever wants to hear it."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]


def silent(_text: str) -> None:
    """For those who do not want to hear it."""
