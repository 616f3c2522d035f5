"""What public functions are given: names and lists of them, whole numbers, paths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefusion.runtime.arguments import brief, names_of, path_of, whole_number
from edgefusion.runtime.errors import UsageError


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("unet", ("unet",)),
        (["unet"], ("unet",)),
        (("a", "b"), ("a", "b")),
        ((name for name in "ab"), ("a", "b")),
        ({"a": 1}, ("a",)),
        ([], ()),
    ],
)
def test_one_name_is_a_name_and_not_its_letters(given: object, names: tuple[str, ...]) -> None:
    assert names_of(given, "components") == names


@pytest.mark.parametrize("given", [None, 5, b"unet", [5], [None], ["a", b"b"]])
def test_what_is_no_name_is_told(given: object) -> None:
    with pytest.raises(UsageError, match=r"^components (is|holds) .*; expected"):
        names_of(given, "components")


@pytest.mark.parametrize("given", [1, np.int64(1)])
def test_whole_numbers(given: object) -> None:
    assert whole_number(given, "steps", least=1) == 1


@pytest.mark.parametrize("given", [0, -1, 1.0, "1", None, True, [1]])
def test_what_is_no_whole_number_is_told(given: object) -> None:
    with pytest.raises(UsageError, match=r"^steps is .*; expected"):
        whole_number(given, "steps", least=1)


def test_paths() -> None:
    assert path_of("a/b", "the bundle") == path_of(Path("a/b"), "the bundle") == Path("a/b")


@pytest.mark.parametrize("given", [None, 5, "", b"a", "a\0b", ["a"]])
def test_what_is_no_path_is_told(given: object) -> None:
    with pytest.raises(UsageError, match=r"^the bundle is .*; expected the path of a file"):
        path_of(given, "the bundle")


def test_long_values_are_quoted_by_their_type() -> None:
    assert brief(list(range(1000))) == "a list"
    assert brief(object()) == "a object"
    assert brief("short") == "'short'"
