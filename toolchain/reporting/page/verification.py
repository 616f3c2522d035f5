"""What ``verify --json`` wrote, read for a report: of the bundle that is reported, and whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.validation import validated

VERSIONS = (3,)
"""Schema versions of verifications that reports can show."""
_ADVICE = "Write it again with `edgefusion verify BUNDLE --json FILE`."


@dataclass(frozen=True, slots=True)
class _Gates:
    summary: str
    passed: bool | None


@dataclass(frozen=True, slots=True)
class _Value:
    component: str
    value: str
    prompt: str | None = None
    timestep: float | None = None
    bundle_db: float | None = None
    gate_db: float | None = None
    source_db: float | None = None
    model_gate_db: float | None = None
    passed: bool | None = None


@dataclass(frozen=True, slots=True)
class _Layer:
    component: str
    op: str
    kind: str
    scope: str = ""
    timestep: float | None = None
    isolated_sqnr_db: float | None = None
    accumulated_sqnr_db: float | None = None
    weights_sqnr_db: float | None = None
    inputs_sqnr_db: float | None = None
    output_sqnr_db: float | None = None


@dataclass(frozen=True, slots=True)
class _Verification:
    schema_version: int
    bundle: str
    gates: _Gates
    values: tuple[_Value, ...]
    layers: tuple[_Layer, ...]
    image_psnr_db: float | None = None


def read_verification(path: Path) -> dict[str, Any]:
    """A verification's values and layers. Raises InputError for what is none, or is of another
    version."""
    what = f"{path} is no verification"
    with disk_errors(path):
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{what} ({error}). {_ADVICE}") from error
    version = stored.get("schema_version") if isinstance(stored, dict) else None
    if isinstance(version, int) and "gates" in stored and version not in VERSIONS:
        raise InputError(
            f"{path} has schema version {version}, a report reads {VERSIONS[0]}. {_ADVICE}"
        )
    return asdict(validated(_Verification, stored, what, _ADVICE))
