"""Values of machine parameters as people write them: ``dma_bandwidth=30GB/s``, ``sram=4MiB``.

A parameter is named by its key in a target file, or by that without its unit; entries of tables by
dotted names (``vector_cycles.softmax``). A value is a number in the key's unit, a number with a
unit of its own, or a multiple of what the machine has (``2x``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

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
_BARE = ("_elements_per_cycle", "_per_cycle", "_cycles")
"""Further ends that may be left out; these have no other unit than their own."""
_VALUE = re.compile(
    r"\s*(?P<number>[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(?P<unit>\S*)\s*"
)
EXAMPLE = "--set dma_bandwidth=30GB/s, --set sram=4MiB or --set tensor_rate.w8a16=0.25"


def parse_settings(texts: Iterable[str], machine: Machine) -> dict[str, int | float]:
    """``KEY=VALUE`` each, as values by key for ``Machine.with_values``; the last of a key holds.

    Raises UsageError, with what was expected, for an unknown key, and for a value or unit that the
    key cannot have.
    """
    known = _flat(machine)
    found: dict[str, int | float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: expected KEY=VALUE, as in {EXAMPLE}.")
        key = parameter_key(name.strip(), known)
        found[key] = _value(text, key, value, known[key])
    return found


def parameter_key(name: str, known: Iterable[str]) -> str:
    """The key that ``name`` stands for; UsageError, with the nearest keys, if there is none."""
    by_name: dict[str, str] = {}
    for key in known:
        for end in (*_UNITS, *_BARE):
            if key.endswith(end):
                by_name.setdefault(key.removesuffix(end), key)
                break
    by_name |= {key: key for key in known}
    if name in by_name:
        return by_name[name]
    near = get_close_matches(name, by_name, 3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(known)}."
    raise UsageError(f"--set {name}: the machine has no such parameter. {hint}")


def _flat(machine: Machine) -> dict[str, int | float]:
    """All values by key, entries of tables by dotted names."""
    flat: dict[str, int | float] = {}
    for key, value in machine.parameters().items():
        if isinstance(value, dict):
            flat |= {f"{key}.{entry}": each for entry, each in value.items()}
        elif key != "name":
            flat[key] = value
    return flat


def _value(text: str, key: str, value: str, current: Any) -> int | float:
    found = _VALUE.fullmatch(value)
    units = next((table for end, table in _UNITS.items() if key.endswith(end)), {})
    if found is None:
        raise UsageError(f"--set {text}: expected a number, as in {EXAMPLE}.")
    number = float(found["number"].replace("_", ""))
    unit = found["unit"]
    if unit in ("x", "×"):
        number *= current
    elif unit in units:
        number *= units[unit]
    elif unit:
        allowed = ", ".join(units) or "none, for its unit is in its name"
        raise UsageError(f"--set {text}: {key} takes no unit {unit!r}; units are {allowed}, or x.")
    return int(number) if isinstance(current, int) and number.is_integer() else number
