"""A verification as JSON.

Decibels are null where there is no error at all, -999 where there is no signal left, and null where
nothing was compared (``model_checked`` tells).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isinf
from typing import TYPE_CHECKING, Any

from edgefusion.runtime.accuracy import decibels
from edgefusion.toolchain.accuracy.gates import Gates, avoidable_db
from edgefusion.toolchain.accuracy.layer_accuracy import CAUSES, LayerError

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.compiler.network.network import NetOp
    from edgefusion.toolchain.accuracy.npu_layers import LayerKey
    from edgefusion.toolchain.accuracy.verification import ValueAccuracy, Verification

SCHEMA_VERSION = 3
"""3: two gates; comparisons that are not made are null, and so is what they would have shown.
2: causes ``requantization`` and ``tables`` instead of ``rest``."""
_NO_SIGNAL_DB = -999.0


def verification_json(
    found: Verification, gates: Gates, ops: Mapping[str, Mapping[str, NetOp]]
) -> dict[str, Any]:
    """As ``verify --json`` writes it; ``ops`` by component and name say what layers are
    (``layer_ops``)."""
    pictures = [row for row in found.values if row.kind == "picture"]
    by_source = gates.against != "bundle"
    images = [(by_source and row.source) or row.bundle for row in pictures]
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle": str(found.bundle),
        "source": found.source,
        "reference_weights": found.layer_weights,
        "model_references": dict(found.model_references),
        "gates": {
            "min_sqnr_db": gates.min_sqnr_db,
            "min_model_db": gates.min_model_db,
            "min_psnr_db": gates.min_psnr_db,
            "against": gates.against,
            "arithmetic_passed": gates.all_arithmetic(found),
            "model_passed": gates.all_model(found),
            "passed": gates.all_passed(found),
            "verdict": gates.verdict(found),
            "summary": gates.summary(found),
        },
        "image_psnr_db": db(min((each.db for each in images if each), default=inf)),
        "values": [_value_row(row, gates) for row in found.values],
        "layers_by": gates.layers_by(found),
        "layers": [_layer_row(key, error, ops) for key, error in found.layers.items()],
    }


def layer_ops(bundle: Bundle, found: Verification) -> dict[str, dict[str, NetOp]]:
    """By component and name, the ops of those components of ``bundle`` whose layers were measured.

    They are those of the network: a program may do two as one.
    """
    measured = dict.fromkeys(component for component, _, _ in found.layers)
    return {name: {op.name: op for op in bundle.network(name).ops} for name in measured}


def _value_row(row: ValueAccuracy, gates: Gates) -> dict[str, Any]:
    indices = any(each is not None and each.equal is not None for each in (row.source, row.bundle))
    measure = "psnr" if row.kind == "picture" else "equal" if indices else "sqnr"
    compared = {"source": row.source, "bundle": row.bundle, "weights": row.weights}
    limits = {
        "gate_db": gates.limit(row, "bundle") if gates.against != "source" else -inf,
        "model_gate_db": gates.limit(row, "source") if gates.against != "bundle" else -inf,
    }
    remarks = dict.fromkeys(each.remark for each in compared.values() if each and each.remark)
    return {
        "prompt": row.prompt,
        "component": row.component,
        "value": row.value,
        "measure": measure,
        "timestep": row.timestep,
        **{
            f"{k}_db": db(each.db) if each and each.comparable else None
            for k, each in compared.items()
        },
        **{f"{k}_equal": None if each is None else each.equal for k, each in compared.items()},
        **{name: None if isinf(limit) or indices else limit for name, limit in limits.items()},
        "gated": gates.gated(row),
        "arithmetic_passed": gates.arithmetic(row),
        "model_checked": row.source is not None and row.source.comparable,
        "model_passed": gates.model(row),
        "passed": gates.passed(row),
        "remark": "; ".join(remarks),
    }


def _layer_row(
    key: LayerKey, error: LayerError, ops: Mapping[str, Mapping[str, NetOp]]
) -> dict[str, Any]:
    component, op, timestep = key
    layer = ops[component][op]
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
        "kind": layer.kind.name,
        "scope": layer.scope,
        "timestep": timestep,
        "isolated_sqnr_db": db(error.isolated.sqnr_db),
        "avoidable_sqnr_db": db(avoidable_db(error)),
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
