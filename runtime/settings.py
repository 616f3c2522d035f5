"""Values of machine parameters as people write them: ``dma_bandwidth=30GB/s``, ``sram=4MiB``.

A parameter is named by its key in a target file, or by that without its unit; entries of tables by
dotted names (``vector_cycles.softmax``). A value is a number in the key's unit, a number with a
unit of its own, or a multiple of what the machine has (``2x``). Several values of one key are
separated by commas; ``1MiB:8MiB:1MiB`` is a range with its ends, ``1MiB:8MiB:*2`` one of powers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.machine import Machine

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZES = {f"{prefix}B": factor for prefix, factor in (_DECIMAL | _BINARY).items()}
_UNITS: Mapping[str, Mapping[str, float]] = {
    "_bytes_per_s": {f"{unit}/s": factor for unit, factor in _SIZES.items()},
    "_macs_per_s": {f"{prefix}MAC/s": factor for prefix, factor in _DECIMAL.items()},
    "_bytes": _SIZES,
    "_hz": {f"{prefix}Hz": factor for prefix, factor in _DECIMAL.items()},
    "_ns": {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9},
}
"""Units by the end of a key, longest ends first; factors are to the unit that the key names."""
_BARE = ("_bytes_per_cycle", "_per_cycle", "_cycles")
"""Further ends that may be left out; these have no other unit than their own."""
_VALUE = re.compile(
    r"\s*(?P<number>[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(?P<unit>\S*)\s*"
)
_MOST_VALUES = 10_000
_TOLERANCE = 1e-9
"""Of a range's end, in steps: 0.1 is no binary fraction."""
EXAMPLE = "--set dma_bandwidth=30GB/s, --set sram=4MiB or --set tensor_rate.w8a16=0.25"


def parse_settings(texts: Iterable[str], machine: Machine) -> dict[str, int | float]:
    """``KEY=VALUE`` each, as values by key for ``Machine.with_values``; the last of a key holds.

    Raises UsageError, with what was expected, for an unknown key, and for a value or unit that the
    key cannot have.
    """
    known = machine.flat_parameters()
    found: dict[str, int | float] = {}
    for text in texts:
        key, value = _split(text, known)
        found[key] = _value(text, key, value, known[key])
    return found


def parse_choices(texts: Iterable[str], machine: Machine) -> dict[str, tuple[int | float, ...]]:
    """``KEY=V1,V2,...`` each, as the different values of each key, in the order given; the last of
    a key holds. Raises UsageError as ``parse_settings`` does, and for a range without an end."""
    known = machine.flat_parameters()
    found: dict[str, tuple[int | float, ...]] = {}
    for text in texts:
        key, value = _split(text, known)
        parts = [part for part in value.split(",") if part.strip()]
        if not parts:
            raise UsageError(f"--set {text}: expected one value or more, as in {EXAMPLE}.")
        values = [each for part in parts for each in _values(text, key, part, known[key])]
        found[key] = tuple(dict.fromkeys(values))
    return found


def parse_value(key: str, value: str, machine: Machine) -> int | float:
    """The value of one key of ``machine``, as ``parse_settings`` reads it."""
    return _value(f"{key}={value}", key, value, machine.flat_parameters()[key])


def parameter_key(name: str, known: Iterable[str]) -> str:
    """The key that ``name`` stands for; UsageError, with the nearest keys, if there is none."""
    by_name: dict[str, str] = {}
    for key in known:
        by_name.setdefault(short_name(key), key)
    by_name |= {key: key for key in known}
    if name in by_name:
        return by_name[name]
    near = get_close_matches(name, by_name, 3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(known)}."
    raise UsageError(f"--set {name}: the machine has no such parameter. {hint}")


def setting_text(key: str, value: int | float) -> str:
    """A value as people write it, in the largest unit that keeps it whole or short: ``4MiB``,
    ``30GB/s``. What ``parse_settings`` makes of it is the same number to six digits."""
    units = next((table for end, table in _UNITS.items() if key.endswith(end)), {})
    binary = {unit: factor for unit, factor in units.items() if unit.startswith(tuple(_BINARY))}
    for unit, factor in reversed(binary.items()):
        if value >= factor and value % (factor / 4) == 0 and not key.endswith("_per_s"):
            return f"{value / factor:g}{unit}"
    decimal = {unit: factor for unit, factor in units.items() if unit not in binary}
    for unit, factor in reversed(decimal.items()):
        if value >= factor and (isinstance(value, float) or value % factor == 0):
            return f"{value / factor:g}{unit}"
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def short_name(key: str) -> str:
    """A key without its unit, as people write it."""
    ends = (end for end in (*_UNITS, *_BARE) if key.endswith(end))
    end = next(ends, "")
    return key.removesuffix("_per_s" if end == "_macs_per_s" else end)


def _split(text: str, known: Iterable[str]) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: expected KEY=VALUE, as in {EXAMPLE}.")
    return parameter_key(name.strip(), known), value


def _values(text: str, key: str, part: str, current: float) -> list[int | float]:
    """One value, or those of a range with its ends."""
    if ":" not in part:
        return [_value(text, key, part, current)]
    bounds = part.split(":")
    if len(bounds) != 3:
        raise UsageError(f"--set {text}: expected a range as FIRST:LAST:STEP or FIRST:LAST:*TIMES.")
    first, last = (_value(text, key, bound, current) for bound in bounds[:2])
    times = bounds[2].strip().startswith("*")
    step = _number(text, bounds[2].strip()[1:]) if times else _value(text, key, bounds[2], current)
    if not (first <= last and (step > 1 and first > 0 if times else step > 0)):
        raise UsageError(f"--set {text}: no range leads from {bounds[0]} to {bounds[1]} like this.")
    count = math.log(last / first, step) if times else (last - first) / step
    if not count < _MOST_VALUES:
        raise UsageError(f"--set {text}: that are more than {_MOST_VALUES} values.")
    numbers = range(int(count + _TOLERANCE) + 1)
    values = [first * step**number if times else first + number * step for number in numbers]
    return [int(v) if isinstance(current, int) and float(v).is_integer() else v for v in values]


def _value(text: str, key: str, value: str, current: float) -> int | float:
    found = _VALUE.fullmatch(value)
    units = next((table for end, table in _UNITS.items() if key.endswith(end)), {})
    if found is None:
        raise UsageError(f"--set {text}: expected a number, as in {EXAMPLE}.")
    number = float(found["number"].replace("_", ""))
    unit = found["unit"]
    if unit in ("x", "×"):
        number *= current
        number = round(number) if isinstance(current, int) and math.isfinite(number) else number
    elif unit in units:
        number *= units[unit]
    elif unit:
        allowed = ", ".join(units) or "none, for its unit is in its name"
        raise UsageError(f"--set {text}: {key} takes no unit {unit!r}; units are {allowed}, or x.")
    return int(number) if isinstance(current, int) and float(number).is_integer() else number


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"--set {text}: expected a number after *, found {value!r}.") from None
