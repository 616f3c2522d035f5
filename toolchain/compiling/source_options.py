"""How a source is compiled, as files say it: suites of latencies, and of explorations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.validation import Finite, Strict, Whole

if TYPE_CHECKING:
    from edgefusion.models.source import Source

Positive = Annotated[int, Field(strict=True, ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions(Strict):
    """``source`` is what ``compile`` takes; all else are its options, by their names. What is left
    out is as there."""

    source: str = ""
    components: tuple[str, ...] = ()
    recipe: str = ""
    random_weights: Whole | None = None
    variant: str | None = None
    lora: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[Positive, ...]] = field(default_factory=dict)
    scheduler: str | None = None
    height: Positive | None = None
    width: Positive | None = None
    guidance: Finite | None = None
    image_to_image: bool = False
    strength: Finite | None = None
    control_scale: Finite | None = None
    any_timestep: bool = False
    transposing: bool = True

    @property
    def chosen(self) -> dict[str, Any]:
        """By name, what is not as when it is left out."""
        usual = SourceOptions()
        names = (each.name for each in fields(usual))
        return {k: getattr(self, k) for k in names if getattr(self, k) != getattr(usual, k)}

    def located(self, find: Callable[[str], str]) -> Self:
        """The same, with files as ``find`` has them."""
        return replace(
            self,
            source=find(self.source),
            recipe=find(self.recipe) if self.recipe else "",
            lora=tuple(_located(find, each) for each in self.lora),
        )

    def resolve(self) -> Source:
        """The source. Raises what ``resolve_source`` does."""
        from edgefusion.models.source import resolve_source

        return resolve_source(
            self.source,
            random_weights_seed=self.random_weights,
            variant=self.variant,
            loras=self.lora,
        )

    def recipe_text(self) -> str:
        """What the recipe says, nothing for none. Raises InputError for one that cannot be read."""
        try:
            return Path(self.recipe).read_text(encoding="utf-8") if self.recipe else ""
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the recipe {self.recipe}: {error}") from error

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of ``compile_source``, but for the source itself."""
        return {
            "components": self.components or None,
            "recipe": self.recipe or None,
            "random_weights": self.random_weights,
            "variant": self.variant,
            "loras": self.lora,
            "shapes": self.shapes,
            "scheduler": self.scheduler,
            "height": self.height,
            "width": self.width,
            "guidance": self.guidance,
            "image_to_image": self.image_to_image,
            "strength": self.strength,
            "control_scale": self.control_scale,
            "timestep_tables": not self.any_timestep,
            "transposing": self.transposing,
        }


def _located(find: Callable[[str], str], lora: str) -> str:
    """``lora`` is FILE or FILE:SCALE."""
    found = find(lora)
    file, colon, scale = lora.rpartition(":")
    return found if found != lora or not colon else f"{find(file)}:{scale}"
