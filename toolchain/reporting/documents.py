"""What a profile says, as the JSON documents that every report shows and writes.

Units are in the keys. Figures of components and ops are of one evaluation, ``image_*`` and
``share_percent`` of a whole image; ``total_*`` of traffic too. ``docs/json_schemas.md`` has every
key.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edgefusion.runtime.latency import PS_PER_MS
from edgefusion.runtime.ledger import pipeline_traffic_json
from edgefusion.runtime.simulator import STALL_REASONS
from edgefusion.toolchain.profiling.profile import ComponentProfile, OpProfile, Profile
from edgefusion.toolchain.profiling.scenario import lowers_again
from edgefusion.toolchain.reporting.traffic_rows import VIEWS, traffic_rows


def latency_document(profile: Profile, ops: Collection[OpProfile] | None = None) -> dict[str, Any]:
    """What ``simulate --json`` writes: ``pipeline``, ``components`` by name, and ``ops`` (all when
    left out) in the order of their programs."""
    ranked = {(row["component"], row["name"]): row for row in ranked_rows(profile, ops)}
    document = profile.latency.to_json()
    return {
        **document,
        **about(profile),
        "components": {
            c.name: {**document["components"][c.name], **_in_image(c, profile)}
            for c in profile.components
        },
        "ops": [
            ranked[op.component, op.name] for op in profile.ops if (op.component, op.name) in ranked
        ],
    }


def traffic_document(profile: Profile, ops: Collection[OpProfile] | None = None) -> dict[str, Any]:
    """What ``traffic --json`` writes; ``image`` holds the rows of its tables by view, with ``ops``
    those of what they move."""
    return {
        **pipeline_traffic_json(profile.traffic),
        **about(profile),
        "image": {view: traffic_rows(profile, view, ops) for view in VIEWS},
    }


def ranked_rows(profile: Profile, ops: Collection[OpProfile] | None = None) -> list[dict[str, Any]]:
    """``ops`` (all when left out), those first that take most of an image, with ``rank`` among
    them and ``cumulative_percent`` of the whole image."""
    chosen = None if ops is None else {(op.component, op.name) for op in ops}
    total, so_far = profile.latency.total_ps, 0
    rows: list[dict[str, Any]] = []
    for op in profile.costliest():
        if chosen is not None and (op.component, op.name) not in chosen:
            continue
        so_far += op.image_ps
        cumulative = 100 * so_far / total if total else 0.0
        rows.append({**op_row(op), "rank": len(rows) + 1, "cumulative_percent": cumulative})
    return rows


def _in_image(component: ComponentProfile, profile: Profile) -> dict[str, Any]:
    """A component's part in an image, and what each of its engines did in one evaluation."""
    image_ps, total = component.evaluations * component.latency.latency_ps, profile.latency.total_ps
    timeline = component.timeline
    engines = zip(
        timeline.engines,
        timeline.kinds,
        timeline.busy_ps.tolist(),
        timeline.stall_ps.tolist(),
        timeline.idle_ps.tolist(),
        strict=True,
    )
    return {
        "image_latency_ms": image_ps / PS_PER_MS,
        "share_percent": 100 * image_ps / total if total else 0.0,
        "engines": [
            {
                "engine": name,
                "kind": kind.name.lower(),
                "busy_ms": busy / PS_PER_MS,
                "stalls_ms": {
                    reason: ps / PS_PER_MS for reason, ps in zip(STALL_REASONS, stalls, strict=True)
                },
                "idle_ms": idle / PS_PER_MS,
            }
            for name, kind, busy, stalls, idle in engines
        ],
    }


def about(profile: Profile) -> dict[str, Any]:
    """What was timed, and on what. ``changes`` are from what the bundle was compiled for, which
    ``changed_from`` has under the same keys."""
    scenario = profile.scenario
    return {
        "bundle": profile.label,
        "target": scenario.machine.name,
        "target_digest": scenario.machine.digest,
        "schedule": scenario.schedule,
        "steps": scenario.steps,
        "changes": dict(scenario.changes),
        "changed_from": {key: _compiled_for(profile, key) for key in scenario.changes},
        "lowered_again": lowers_again(scenario, profile.manifest),
    }


def _compiled_for(profile: Profile, key: str) -> int | float | str:
    """What the bundle has where a scenario has another value."""
    manifest = profile.manifest
    own: dict[str, int | float | str] = {
        "target": manifest.target.name,
        "schedule": manifest.schedule,
        "steps": manifest.steps,
    }
    return own[key] if key in own else manifest.target.flat_parameters()[key]


def op_row(op: OpProfile) -> dict[str, Any]:
    """One op: its latency record, and what it is in the image."""
    return {
        "component": op.component,
        "module": op.module,
        "path": op.path,
        "evaluations": op.evaluations,
        "image_latency_ms": op.image_ps / PS_PER_MS,
        "share_percent": 100 * op.share,
        "limited_by": op.limited_by.name.lower(),
        "macs": op.macs,
        "dram_bytes_by_cause": dict(op.bytes_by_cause),
        **op.latency.to_json(),
    }
