"""A cursor over one line of text, for parsers: take what is expected, or say what was found."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from edgefusion.runtime.errors import InputError

BARE_WORD = re.compile(r"[A-Za-z0-9_/.][^\s,;=\"]*")
"""A name that needs no quotes."""

Value = TypeVar("Value")

_INTEGER = re.compile(r"-?(0x[0-9a-f]+|[0-9]+)")
_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z0-9_]+")
_JSON = json.JSONDecoder()
_FOUND_CHARACTERS = 30


def name_text(name: str) -> str:
    """A name as ``Line.name`` reads it: bare where possible, else a JSON string."""
    return name if BARE_WORD.fullmatch(name) else json.dumps(name)


class Line:
    """A line and a position in it. Spaces before whatever is taken do not matter."""

    def __init__(self, number: int, text: str) -> None:
        self._number, self._text, self._at = number, text, 0

    def error(self, expected: str) -> InputError:
        """The error to raise here: line, column, expected and found."""
        rest = self._text[self._at :].strip()
        found = repr(rest[:_FOUND_CHARACTERS]) if rest else "the end of the line"
        return InputError(
            f"program text, line {self._number}, column {self._at + 1}: expected {expected}, "
            f"found {found}"
        )

    def refusal(self, reason: str) -> InputError:
        """The error to raise where what the line says is wrong for ``reason``."""
        return InputError(f"program text, line {self._number}: {reason}")

    def sees(self, symbol: str) -> bool:
        """Whether ``symbol`` comes next; a word counts only where a space or the end follows."""
        if not self.starts(symbol):
            return False
        following = self._text[self._at + len(symbol) :][:1]
        return not symbol[-1].isalnum() or not following or following.isspace()

    def starts(self, prefix: str) -> bool:
        """Whether the next characters are ``prefix``, whatever follows."""
        return self._text.startswith(prefix, self._skip())

    def accept(self, symbol: str) -> bool:
        """Take ``symbol`` if it comes next."""
        seen = self.sees(symbol)
        self._at += len(symbol) * seen
        return seen

    def after(self, symbol: str) -> Line:
        """Take ``symbol``, which must come next; returns the line for what follows."""
        if not self.accept(symbol):
            raise self.error(repr(symbol))
        return self

    def take(self, pattern: re.Pattern[str], expected: str) -> str:
        """Take what matches ``pattern``."""
        match = pattern.match(self._text, self._skip())
        if match is None:
            raise self.error(expected)
        self._at = match.end()
        return match.group()

    def integer(self, expected: str = "an integer", *, bits: int = 63) -> int:
        """Take an integer, decimal or hexadecimal, of at most ``bits`` bits and a sign."""
        start = self._skip()
        digits = self.take(_INTEGER, expected)
        value = int(digits, 16 if "x" in digits else 10)
        if abs(value) >> bits:
            self._at = start
            raise self.error(f"{expected} of at most {bits} bits")
        return value

    def reference(self, prefix: str, expected: str) -> int:
        """Take a number of 31 bits with a prefix, like ``t12`` or ``%7``."""
        if not self.starts(prefix):
            raise self.error(expected)
        self._at += len(prefix)
        return self.integer(expected, bits=31)

    def name(self, expected: str = "a name") -> str:
        """Take a bare word or a JSON string."""
        if self._text.startswith('"', self._skip()):
            return str(self.json())
        return self.take(BARE_WORD, expected)

    def json(self) -> Any:
        """Take a JSON value."""
        try:
            value, self._at = _JSON.raw_decode(self._text, self._skip())
        except ValueError:
            raise self.error("a JSON value") from None
        return value

    def number(self) -> float:
        """Take a JSON number."""
        value = self.json()
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error("a number before this")
        return value

    def one_of(
        self, values: Mapping[str, Value], expected: str, pattern: re.Pattern[str] = _WORD
    ) -> Value:
        """Take a word that names one of ``values``."""
        start = self._skip()
        word = self.take(pattern, expected)
        if word not in values:
            self._at = start
            raise self.error(f"{expected} ({', '.join(values)})")
        return values[word]

    def at_end(self) -> bool:
        """Whether nothing but spaces is left."""
        return self._skip() == len(self._text)

    def end(self) -> None:
        """Nothing may be left."""
        if not self.at_end():
            raise self.error("the end of the line")

    def _skip(self) -> int:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at
