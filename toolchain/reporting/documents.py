"""What a profile says, as the JSON documents that every report shows and writes.

Units are in the keys. Figures of components and ops are of one evaluation, ``image_*`` and
``share_percent`` of a whole image; ``total_*`` of traffic too.
"""

from __future__ import annotations

from typing import Any

from edgefusion.runtime.latency import PS_PER_MS
from edgefusion.runtime.ledger import pipeline_traffic_json
from edgefusion.toolchain.profiling.profile import OpProfile, Profile


def latency_document(profile: Profile) -> dict[str, Any]:
    """What ``simulate --json`` writes: ``pipeline``, ``components`` by name, ``ops`` in order."""
    return {
        **profile.latency.to_json(),
        **about(profile),
        "ops": [op_row(op) for op in profile.ops],
    }


def traffic_document(profile: Profile) -> dict[str, Any]:
    """What ``traffic --json`` writes."""
    return {**pipeline_traffic_json(profile.traffic), **about(profile)}


def about(profile: Profile) -> dict[str, Any]:
    """What was timed, and on what. ``changes`` are from what the bundle was compiled for."""
    scenario = profile.scenario
    return {
        "bundle": profile.label,
        "target": scenario.machine.name,
        "target_digest": scenario.machine.digest,
        "schedule": scenario.schedule,
        "steps": scenario.steps,
        "changes": dict(scenario.changes),
    }


def op_row(op: OpProfile) -> dict[str, Any]:
    """One op: its latency record, and what it is in the image."""
    return {
        "component": op.component,
        "module": op.module,
        "evaluations": op.evaluations,
        "image_latency_ms": op.image_ps / PS_PER_MS,
        "share_percent": 100 * op.share,
        "limited_by": op.limited_by.name.lower(),
        "macs": op.macs,
        "dram_bytes_by_cause": dict(op.bytes_by_cause),
        **op.latency.to_json(),
    }
