"""Recipes: what a file chooses, and what of it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.runtime.errors import InputError
from edgefusion.toolchain.accuracy.recipe import Recipe, load_recipe


def test_a_file_chooses_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text(
        "[precision]\nvae_decoder = 'w8a16'\n"
        "[[rule]]\nmatch = 'down.*'\nprecision = 'fp16'\n"
        "[[rule]]\nmatch = 'up.*'\nprecision = 'w8a16'\n"
    )
    recipe = load_recipe(file)
    assert recipe.rules == (("down.*", "fp16"), ("up.*", "w8a16"))
    names = ("text_encoder", "unet", "vae_decoder", "model")
    assert [recipe.precision_of(name) for name in names] == ["fp16", "w8a16", "w8a16", "fp16"]
    file.write_text("")
    assert load_recipe(file) == Recipe()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[precison]", r"unknown key precison \(did you mean precision\?\)"),
        ("[precision]\nunit = 'fp16'", r"unknown key precision\.unit \(expected .*'unet'"),
        ("[precision]\nunet = 'int4'", r"precision\.unet is 'int4', expected 'fp16' or 'w8a16'"),
        ("precision = 'fp16'", "precision is 'fp16', expected a table"),
        ("[rule]\nmatch = 'a'", "rule is {'match': 'a'}, expected a list"),
        ("[[rule]]\nmatch = 1\nprecision = 'fp16'", r"rule\.0\.match is 1, expected text"),
        ("[[rule]]\nprecision = 'fp16'", r"rule\.0\.match is missing"),
        ("[precision", "cannot read the recipe"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "r.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"r\.toml.*{told}" if "read" not in told else told):
        load_recipe(file)
