"""The recipe: choices of precision that a user makes in a TOML file.

    [precision]                  # by component: "fp16" or "w8a16"
    unet = "w8a16"
    vae_decoder = "fp16"

    [[rule]]                     # by op; shell patterns against name, scope or operator,
    match = "down_blocks.0.*"    # the first rule that matches decides
    precision = "fp16"

Unknown keys are errors, so that a misspelt one cannot be ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgefusion.runtime.errors import InputError

PRECISIONS = ("fp16", "w8a16")
DEFAULT_PRECISION: Mapping[str, str] = {
    "text_encoder": "fp16",
    "unet": "w8a16",
    "vae_decoder": "fp16",
    "model": "fp16",
}
"""Precision of each component; an ONNX file that is none of the three is a ``model``."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """``precision`` by component, over the defaults; ``rules`` are (pattern, precision) pairs."""

    precision: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[tuple[str, str], ...] = ()

    def precision_of(self, component: str) -> str:
        """The precision of a component's ops that no rule matches."""
        return self.precision.get(component, DEFAULT_PRECISION.get(component, "fp16"))


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises InputError, naming the key, for whatever is not understood."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the recipe {path}: {error}") from error
    _only(data, ("precision", "rule"), path)
    precision, rules = data.get("precision", {}), data.get("rule", [])
    if not isinstance(precision, dict) or not isinstance(rules, list):
        raise InputError(f"recipe {path}: expected a table [precision] and tables [[rule]]")
    _only(precision, tuple(DEFAULT_PRECISION), path)
    for entry in rules:
        _only(entry, ("match", "precision"), path)
        if not isinstance(entry.get("match"), str):
            raise InputError(f'recipe {path}: a rule needs match = "pattern", found {entry!r}')
    chosen = {name: _precision(value, path) for name, value in precision.items()}
    pairs = tuple((entry["match"], _precision(entry.get("precision"), path)) for entry in rules)
    return Recipe(chosen, pairs)


def _only(table: Any, known: tuple[str, ...], path: Path) -> None:
    if not isinstance(table, dict):
        raise InputError(f"recipe {path}: expected a table, found {table!r}")
    for key in table:
        if key not in known:
            raise InputError(
                f"recipe {path}: unknown key {key!r}; known keys are {', '.join(known)}"
            )


def _precision(value: object, path: Path) -> str:
    if value not in PRECISIONS:
        raise InputError(f"recipe {path}: expected one of {', '.join(PRECISIONS)}, found {value!r}")
    return str(value)
