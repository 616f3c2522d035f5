"""Valid inputs, changed at random: bytes, lines and numbers of text, JSON values, protobuf fields.

Every mutation takes a ``random.Random``, so that a seed gives the same input again.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

Random = random.Random

INTEGERS = (0, 1, -1, 2, 3, 4, 7, 16, 127, 255, 65536, 2**31 - 1, 2**31, -(2**31), 2**63 - 1)
NUMBERS = ("0", "-1", "1", "3.5", "1e30", "-1e30", "nan", "inf", "65536", "9223372036854775808")
TEXTS = ("", "x", "../x", "/etc/passwd", "\u00e9\U0001f600", "a" * 2000, "a/b", "-", "0")
VALUES: tuple[Any, ...] = (None, True, False, 0, -1, 1, 3.5, 1e300, 2**63, *TEXTS, [], {}, [[]])
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def mutated_bytes(content: bytes, rng: Random) -> bytes:
    """``content`` with bits flipped, a piece cut out, doubled, overwritten, or its end missing."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(max(len(data), 1))
        length = rng.choice((1, 2, 4, 64))
        how = rng.randrange(5)
        if how == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[at : at + length]
        elif how == 2:
            data[at:at] = data[at : at + length]
        elif how == 3:
            data[at : at + length] = rng.randbytes(length)
        else:
            del data[at:]
    return bytes(data)


def mutated_text(content: str, rng: Random) -> str:
    """``content`` with a number, a line or a quoted text changed; sometimes mere bytes."""
    how = rng.randrange(6)
    lines = content.splitlines()
    at = rng.randrange(len(lines)) if lines else 0
    if how == 0:
        return mutated_bytes(content.encode(), rng).decode("utf-8", errors="surrogateescape")
    if how == 1 and lines:
        del lines[at]
    elif how == 2 and lines:
        lines.insert(rng.randrange(len(lines)), lines[at])
    elif how == 3 and lines:
        text = json.dumps(rng.choice(TEXTS))
        lines[at] = re.sub(r'"[^"]*"', lambda _: text, lines[at])
    else:
        numbers = list(_NUMBER.finditer(content))
        if numbers:
            found = rng.choice(numbers)
            return content[: found.start()] + rng.choice(NUMBERS) + content[found.end() :]
    return "\n".join(lines) + "\n"


def mutated_json(value: Any, rng: Random) -> Any:
    """``value`` with one value inside it, or one key, put in another's place, doubled or gone."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        rest = {k: v for k, v in value.items() if k != key}
        how = rng.randrange(6)
        if how == 0:
            return rest
        if how == 1:
            return rest | {rng.choice(TEXTS): value[key]}
        return value | {key: mutated_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        how = rng.randrange(4)
        if how == 0:
            return value[:at] + value[at + 1 :]
        if how == 1:
            return [*value, value[at]]
        return [*value[:at], mutated_json(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.7:
        return rng.choice((*INTEGERS, value + 1, value - 1, value * 2))
    return rng.choice(VALUES)


def mutate_message(message: Message, rng: Random, texts: tuple[str, ...]) -> None:
    """Change a field of ``message``, or of one inside it; ``texts`` are names worth using again."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _mutate_once(message, rng, texts)


def _mutate_once(message: Message, rng: Random, texts: tuple[str, ...]) -> None:
    places = [place for place in _places(message) if rng.random() < 0.5] or list(_places(message))
    if places:
        holder, field = rng.choice(places)
        _change(holder, field, rng, texts)


def _places(message: Message) -> list[tuple[Message, Any]]:
    """Every field that is set in ``message`` and below, with its holder; no weights' bytes."""
    found = []
    for field, value in message.ListFields():
        if field.name in ("raw_data", "float_data", "doc_string"):
            continue
        found.append((message, field))
        if field.message_type is not None:
            inner = value if field.is_repeated else [value]
            for each in inner:
                found += _places(each)
    return found


def _change(holder: Message, field: Any, rng: Random, texts: tuple[str, ...]) -> None:
    if field.is_repeated:
        _change_repeated(getattr(holder, field.name), field, rng, texts)
    elif field.message_type is not None or rng.random() < 0.1:
        holder.ClearField(field.name)
    else:
        _assign(lambda v: setattr(holder, field.name, v), field, rng, texts)


def _change_repeated(items: Any, field: Any, rng: Random, texts: tuple[str, ...]) -> None:
    at, how = rng.randrange(len(items)), rng.randrange(4)
    if how == 0:
        del items[at]
    elif how == 1:
        items.append(items[at])
    elif field.message_type is None:
        _assign(lambda v: items.__setitem__(at, v), field, rng, texts)
    else:
        other = type(items[at])()
        other.CopyFrom(items[at])
        items.insert(rng.randrange(len(items)), other)


def _assign(put: Callable[[Any], None], field: Any, rng: Random, texts: tuple[str, ...]) -> None:
    kind = field.cpp_type
    value: Any
    if kind == field.CPPTYPE_STRING:
        text = rng.choice(texts if texts and rng.random() < 0.8 else TEXTS)
        value = text.encode() if field.type == field.TYPE_BYTES else text
    elif kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        value = rng.choice((0.0, 1.0, -1.0, 0.5, 2.1, 1e-30, 1e30, float("nan"), float("inf")))
    elif kind == field.CPPTYPE_BOOL:
        value = rng.random() < 0.5
    else:
        value = rng.choice(INTEGERS if rng.random() < 0.5 else INTEGERS[:8])
    try:
        put(value)
    except (ValueError, TypeError):  # out of the field's range
        put(type(value)(1) if not isinstance(value, (str, bytes)) else value[:0])
