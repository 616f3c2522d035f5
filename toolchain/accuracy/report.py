"""A verification as JSON, and its gates.

Decibels are null where there is no error at all, and -999 where there is no signal left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isinf
from typing import TYPE_CHECKING, Any

from edgefusion.runtime.accuracy import decibels
from edgefusion.runtime.errors import NumericGateError, UsageError
from edgefusion.toolchain.accuracy.layer_accuracy import CAUSES, LayerError

if TYPE_CHECKING:
    from edgefusion.runtime.program import OpRecord
    from edgefusion.toolchain.accuracy.verification import LayerKey, ValueAccuracy, Verification

SCHEMA_VERSION = 2
"""2: causes ``requantization`` and ``tables`` instead of ``rest``."""
MIN_SQNR_DB = 40.0
"""Gate for the U-Net's latents: the error of a step stays below a hundredth of its values."""
MIN_PSNR_DB = 35.0
"""Gate for the image: differences that the eye does not find side by side."""
_NO_SIGNAL_DB = -999.0


@dataclass(frozen=True, slots=True)
class Gates:
    """Least decibels, against ``bundle`` or ``source`` weights."""

    min_sqnr_db: float = MIN_SQNR_DB
    min_psnr_db: float = MIN_PSNR_DB
    against: str = "bundle"

    def check(self, found: Verification) -> None:
        """Raises NumericGateError, naming the values that miss their gate and the layers that
        contribute most; UsageError where there is no source to be gated against."""
        if self.against == "source" and not found.has_source:
            raise UsageError(
                "--against source needs the bundle's source, which is not known; name it with "
                "--source."
            )
        missed = [row for row in found.values if self.found(row) < self.limit(row)]
        if not missed:
            return
        worst = min(missed, key=lambda row: self.found(row) - self.limit(row))
        at = f" at timestep {worst.timestep}" if worst.timestep is not None else ""
        raise NumericGateError(
            f"{found.bundle}: {len(missed)} values miss their gate, most of all the "
            f"{worst.value} of {worst.component}{at}: {self.found(worst):.1f} dB, expected at "
            f"least {self.limit(worst):g} dB.{_blame(found.layers)} Calibrate on prompts nearer "
            "to deployment, or give such ops precision fp16 in the recipe (--suggest ranks them)."
        )

    def limit(self, row: ValueAccuracy) -> float:
        """The gate of a value; minus infinity for those without one."""
        if row.value == "image":
            return self.min_psnr_db
        return -inf if row.value in ("context", "noise") else self.min_sqnr_db

    def found(self, row: ValueAccuracy) -> float:
        """The value's decibels that are gated."""
        if self.against == "source" and row.source_db is not None:
            return row.source_db
        return row.bundle_db


def _blame(layers: Mapping[LayerKey, LayerError]) -> str:
    """The op that loses most beyond the rounding of its weights."""
    if not layers:
        return ""
    (component, op, _), error = min(layers.items(), key=lambda item: avoidable_db(item[1]))
    share = max(error.causes, key=lambda name: error.causes[name], default="")
    cause = f", mostly by {share}" if share else ""
    return f" The worst layer is {op} of {component} ({avoidable_db(error):.1f} dB{cause})."


def avoidable_db(error: LayerError) -> float:
    """An op's SQNR by itself, the rounding of its weights left out."""
    if not error.causes:
        return error.isolated.sqnr_db
    noise = sum(error.causes[name] for name in CAUSES if name != "weights")
    return decibels(error.isolated.signal, noise)


def verification_json(
    found: Verification, gates: Gates, ops: Mapping[str, Mapping[str, OpRecord]]
) -> dict[str, Any]:
    """As ``verify --json`` writes it; ``ops`` by component and name say what ops are."""
    images = [row for row in found.values if row.value == "image"]
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle": str(found.bundle),
        "source": found.source,
        "reference_weights": "source" if found.has_source else "bundle",
        "gates": {
            "min_sqnr_db": gates.min_sqnr_db,
            "min_psnr_db": gates.min_psnr_db,
            "against": gates.against,
            "passed": all(gates.found(row) >= gates.limit(row) for row in found.values),
        },
        "image_psnr_db": db(min((gates.found(row) for row in images), default=inf)),
        "values": [_value_row(row, gates) for row in found.values],
        "layers": [_layer_row(key, error, ops) for key, error in found.layers.items()],
    }


def _value_row(row: ValueAccuracy, gates: Gates) -> dict[str, Any]:
    limit = gates.limit(row)
    return {
        "prompt": row.prompt,
        "component": row.component,
        "value": row.value,
        "measure": "psnr" if row.value == "image" else "sqnr",
        "timestep": row.timestep,
        "source_db": None if row.source_db is None else db(row.source_db),
        "bundle_db": db(row.bundle_db),
        "weights_db": None if row.weights_db is None else db(row.weights_db),
        "gate_db": None if isinf(limit) else limit,
        "passed": gates.found(row) >= limit,
    }


def _layer_row(
    key: LayerKey, error: LayerError, ops: Mapping[str, Mapping[str, OpRecord]]
) -> dict[str, Any]:
    component, op, timestep = key
    record = ops[component][op]
    signal, count = error.isolated.signal, max(error.isolated.count, 1)
    causes = {
        f"{name}_sqnr_db": db(decibels(signal, error.causes[name]))
        if name in error.causes
        else None
        for name in (*CAUSES, "clipping")
    }
    return {
        "component": component,
        "op": op,
        "kind": record.kind,
        "scope": record.scope,
        "timestep": timestep,
        "isolated_sqnr_db": db(error.isolated.sqnr_db),
        "accumulated_sqnr_db": db(error.accumulated.sqnr_db),
        **causes,
        "clipped_percent": 100 * error.clipped / count,
        "elements": error.isolated.count,
    }


def db(value: float) -> float | None:
    """For JSON, which has no infinity."""
    if isinf(value):
        return None if value > 0 else _NO_SIGNAL_DB
    return round(value, 3)
