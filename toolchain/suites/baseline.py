"""Baselines: one TOML file a case, that a reviewer can read and that diffs well.

The reasons come first, newest first; then what was timed, then every figure on a line of its own.
There are no dates: version control knows them, and the same figures give the same file.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.files import replacing
from edgefusion.runtime.validation import Strict, Whole, validated
from edgefusion.toolchain.suites.figures import PIPELINE, Conditions, Figures, OpFigures

BASELINE_VERSION = 1
_HEAD = "# Written by `edgefusion bench update`, which compares every figure exactly."
_ADVICE = "Restore the file from version control, or remove it and write a new one with update."


@dataclass(frozen=True, slots=True)
class Reason(Strict):
    """Why a baseline was written, and the latency of an image since then."""

    reason: str
    latency_ps: Whole
    tool_version: str
    cost_model_version: Whole


@dataclass(frozen=True, slots=True)
class Baseline:
    """Figures that were agreed on; ``history`` is newest first."""

    figures: Figures
    history: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class _Conditions(Strict):
    tool_version: str
    cost_model_version: Whole
    target: str
    target_digest: str
    schedule: str
    steps: Whole
    source: str
    source_digest: str


@dataclass(frozen=True, slots=True)
class _File(Strict):
    schema_version: Whole
    case: str
    history: tuple[Reason, ...]
    timed: _Conditions
    parameters: dict[str, Any]
    pipeline: dict[str, Any]
    components: dict[str, dict[str, Any]]
    ops: dict[str, dict[str, tuple[Whole, Whole, str]]]


def baseline_path(folder: Path, case: str) -> Path:
    """Where the baseline of ``case`` lies below ``folder``."""
    return folder / f"{case}.toml"


def stored_cases(folder: Path) -> list[str]:
    """Names of the cases that have a baseline below ``folder``."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*.toml"))
    return sorted(name.removesuffix(".toml") for name in found)


def read_baseline(path: Path) -> Baseline | None:
    """The baseline at ``path``, None where there is no file.

    Raises InputError for another schema version, and for whatever is not understood.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the baseline {path}: {error}. {_ADVICE}") from error
    found = data.get("schema_version")
    if found != BASELINE_VERSION:
        raise InputError(
            f"the baseline {path} has schema_version {found!r}; this tool reads "
            f"{BASELINE_VERSION}. Use the tool that wrote it, or remove the file and write a new "
            "one with update."
        )
    file = validated(_File, data, f"the baseline {path}", _ADVICE)
    parts = {PIPELINE: file.pipeline, **file.components}
    metrics = {name: _whole(path, name, part) for name, part in parts.items()}
    if missing := {"latency_ps", "dram_bytes"} - metrics[PIPELINE].keys():
        raise InputError(f"the baseline {path}: pipeline.{min(missing)} is missing. {_ADVICE}")
    timed = file.timed
    conditions = Conditions(
        **{name: getattr(timed, name) for name in _Conditions.__dataclass_fields__},
        parameters=_flat(file.parameters),
    )
    ops = {
        name: {key: OpFigures(*row) for key, row in rows.items()} for name, rows in file.ops.items()
    }
    return Baseline(Figures(conditions, metrics, ops), file.history)


def write_baselines(files: Mapping[Path, tuple[str, Baseline]]) -> None:
    """Write the baseline of each case to its path: all of them, or none where something fails."""
    with replacing(tuple(files), Kind.TOML) as partials:
        for partial, (case, baseline) in zip(partials, files.values(), strict=True):
            partial.write_text(baseline_text(case, baseline), encoding="utf-8")


def baseline_text(case: str, baseline: Baseline) -> str:
    """The file; the same text for the same baseline."""
    figures = baseline.figures
    lines = [_HEAD, f"schema_version = {BASELINE_VERSION}", f"case = {_value(case)}"]
    for reason in baseline.history:
        lines += ["", "[[history]]", *_fields(reason, list(Reason.__dataclass_fields__))]
    lines += ["", "[timed]"]
    lines += _fields(figures.conditions, list(_Conditions.__dataclass_fields__))
    lines += ["", "[parameters]", *_rows(figures.conditions.parameters)]
    for name, metrics in figures.metrics.items():
        title = PIPELINE if name == PIPELINE else f"components.{_key(name)}"
        lines += ["", f"[{title}]", *_rows(metrics)]
    for name, rows in figures.ops.items():
        lines += ["", "# latency_ps, dram_bytes, tile", f"[ops.{_key(name)}]"]
        for key, op in rows.items():
            row = f"[{op.latency_ps}, {op.dram_bytes}, {_value(op.tile)}]"
            lines.append(f"{_value(key)} = {row}")
    return "\n".join(lines) + "\n"


def _whole(path: Path, part: str, table: Mapping[str, Any]) -> dict[str, int]:
    flat = _flat(table)
    for key, value in flat.items():
        if type(value) is not int or value < 0:
            raise InputError(
                f"the baseline {path}: {part}.{key} is {value!r}, expected a whole number. "
                f"{_ADVICE}"
            )
    return flat


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": each for inner, each in _flat(value).items()}
        else:
            flat[key] = value
    return flat


def _fields(record: object, names: Sequence[str]) -> Iterator[str]:
    return (f"{name} = {_value(getattr(record, name))}" for name in names)


def _rows(values: Mapping[str, int | float]) -> Iterator[str]:
    return (f"{'.'.join(map(_key, key.split('.')))} = {_value(v)}" for key, v in values.items())


def _key(name: str) -> str:
    bare = name.replace("-", "").replace("_", "")
    return name if bare.isalnum() and bare.isascii() else _value(name)


def _value(value: object) -> str:
    """As TOML writes it, which is as JSON does but for the character DEL."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
