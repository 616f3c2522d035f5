"""What can be set: each setting with its default and meaning, to write a file of them."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class SettingGuide:
    """One setting; ``default`` is None and ``required`` set where it has to be given."""

    key: str
    default: Any
    required: bool
    accepts: str
    meaning: str


def settings_schema(kind: type[Any]) -> dict[str, Any]:
    """JSON Schema of a settings dataclass, which editors check files by."""
    return TypeAdapter(kind).json_schema()


def settings_guide(kind: type[Any]) -> tuple[SettingGuide, ...]:
    """All settings of the dataclass ``kind``, sections after one another as in its file."""
    schema = settings_schema(kind)
    return tuple(_guides(kind, None, "", schema, schema.get("$defs", {})))


def _guides(
    kind: type[Any], defaults: Any, prefix: str, schema: dict[str, Any], sections: dict[str, Any]
) -> list[SettingGuide]:
    """``defaults`` is the instance that holds them, where a section has its own."""
    found = []
    hints = get_type_hints(kind)
    for field in fields(kind):
        default = _default(field) if defaults is None else getattr(defaults, field.name)
        inner = hints[field.name]
        if is_dataclass(inner):
            assert isinstance(inner, type)
            given = None if default is MISSING else default
            section = sections[inner.__name__]
            found += _guides(inner, given, f"{prefix}{field.name}.", section, sections)
            continue
        described = schema["properties"][field.name]
        required = default is MISSING
        found.append(
            SettingGuide(
                f"{prefix}{field.name}",
                None if required else default,
                required,
                _accepts(described),
                " ".join(described.get("description", "").replace("``", "").split()),
            )
        )
    return found


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _accepts(described: dict[str, Any]) -> str:
    """The values of one property of a JSON Schema, in words."""
    if "anyOf" in described:
        return " or ".join(_accepts(each) for each in described["anyOf"])
    if "enum" in described:
        return ", ".join(map(str, described["enum"]))
    if described["type"] == "array":
        return f"list of {_accepts(described['items'])}"
    words = {
        "minimum": "from",
        "maximum": "to",
        "exclusiveMinimum": "above",
        "exclusiveMaximum": "below",
    }
    limits = [f"{word} {described[key]:g}" for key, word in words.items() if key in described]
    return " ".join([described["type"], *limits])
