"""What a file holds against a dataclass: accepted as it is, or refused in a sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import pytest

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.validation import Strict, Whole, validated


@dataclass(frozen=True, slots=True)
class Wheel(Strict):
    bytes: Whole
    kind: Literal["front", "back"] = "front"


@dataclass(frozen=True, slots=True)
class Cart(Strict):
    name: str
    wheels: tuple[Wheel, ...] = ()
    spare: dict[str, Wheel] = field(default_factory=dict)
    doors: dict[Literal["left", "right"], Whole] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tolerant:
    size: Whole = 0


def test_plain_values_become_the_dataclass() -> None:
    values = {
        "name": "a",
        "wheels": [{"bytes": 3}],
        "spare": {"x": {"bytes": 0, "kind": "back"}},
        "doors": {"left": 1},
    }
    made = Cart("a", (Wheel(3),), {"x": Wheel(0, "back")}, {"left": 1})
    assert validated(Cart, values, "cart.json") == made
    assert validated(Tolerant, {"size": 1, "later": 2}, "it") == Tolerant(1)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "name is missing"),
        ({"nam": "a", "name": "b"}, "unknown key nam (did you mean name?)"),
        ({"name": "b", "zeal": 1}, "unknown key zeal (known are name, wheels, spare, doors)"),
        ({"name": 3}, "name is 3, expected text"),
        ({"name": "a", "wheels": 3}, "wheels is 3, expected a list"),
        ({"name": "a", "wheels": [3]}, "wheels.0 is 3, expected a table of keys and values"),
        (
            {"name": "a", "wheels": [{"bytes": 1}, {"bytes": True}]},
            "wheels.1.bytes is True, expected a whole number",
        ),
        (
            {"name": 1, "wheels": [{"bytes": -1}]},
            "name is 1, expected text; wheels.0.bytes is -1, expected greater than or equal to 0",
        ),
        (
            {"name": "a", "spare": {"x": {"bytes": 1, "kind": "top"}}},
            "spare.x.kind is 'top', expected 'front' or 'back'",
        ),
        (
            {"name": "a", "spare": {"x": {"bytes": 1, "kid": "top"}}},
            "unknown key spare.x.kid (did you mean kind?)",
        ),
        ({"name": "a", "doors": {"up": 1}}, "unknown key doors.up (expected 'left' or 'right')"),
        ([1], "it is [1], expected a table of keys and values"),
        ({"name": ["long"] * 100}, f"name is {repr(['long'] * 100)[:60]}…, expected text"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(values: object, told: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(f'cart.json: {told}. Fix it.')}$"):
        validated(Cart, values, "cart.json", "Fix it.")


def test_many_problems_stay_one_paragraph() -> None:
    with pytest.raises(InputError, match=r"wheels\.4 is 4, [^;]*; and 95 more\.$") as caught:
        validated(Cart, {"name": "a", "wheels": list(range(100))}, "cart.json")
    assert "\n" not in str(caught.value)
