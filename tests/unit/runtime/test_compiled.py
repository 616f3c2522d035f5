"""Compiled loops compute what they say, with or without a place to cache them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgefusion.runtime.compiled import compiled

SOURCE = """
def triangle(n):
    total = 0
    for i in range(n + 1):
        total += i
    return total
"""


def test_a_function_that_no_file_can_cache_is_compiled_all_the_same() -> None:
    scope: dict[str, Callable[[int], int]] = {}
    exec(SOURCE, scope)  # noqa: S102 - a function without a source file
    loop: Any = compiled(scope["triangle"])
    assert loop(100) == 5050
    assert loop.signatures, "expected machine code, found the plain function"
