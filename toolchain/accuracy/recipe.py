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
from typing import Literal

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.pipeline_roles import ROLE_PRECISION, Component, role_of
from edgefusion.runtime.validation import Strict, validated

Precision = Literal["fp16", "w8a16"]


@dataclass(frozen=True, slots=True)
class _Rule(Strict):
    match: str
    precision: Precision


@dataclass(frozen=True, slots=True)
class _File(Strict):
    precision: Mapping[Component, Precision] = field(default_factory=dict)
    rule: tuple[_Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """``precision`` by component, over the defaults; ``rules`` are (pattern, precision) pairs."""

    precision: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[tuple[str, str], ...] = ()

    def precision_of(self, component: str) -> str:
        """The precision of a component's ops that no rule matches."""
        return self.precision.get(component, ROLE_PRECISION[role_of(component)])

    def __repr__(self) -> str:
        precision = ", ".join(f"{name} {value}" for name, value in self.precision.items())
        return f"<Recipe: {precision or 'the defaults'}; {len(self.rules)} rules>"


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises InputError, naming the key, for whatever is not understood."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the recipe {path}: {error}") from error
    given = validated(_File, data, f"recipe {path}")
    precision = dict[str, str](given.precision.items())
    return Recipe(precision, tuple((rule.match, rule.precision) for rule in given.rule))
