"""All that a report of one bundle says, as one JSON document: the page and the Markdown show it.

In: a bundle's profile, and what takes longer to find out (``Findings``). Every number is from the
profile; units are in the keys. ``latency`` and ``traffic`` are what ``simulate --json`` and
``traffic --json`` write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgefusion.runtime.isa import Cause, EngineKind
from edgefusion.runtime.latency import PS_PER_MS, total_label
from edgefusion.runtime.pipeline_roles import network_of
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.profiling.profile import ComponentProfile, Profile, profile_bundle
from edgefusion.toolchain.reporting.documents import latency_document, traffic_document
from edgefusion.toolchain.reporting.page.provenance import parameter_rows, residuals, status_counts
from edgefusion.toolchain.reporting.page.roofline import machine_roofs, roofline_points
from edgefusion.toolchain.reporting.page.tilings import costliest_tilings
from edgefusion.toolchain.reporting.page.timeline_runs import PS_PER_US, engine_times, timeline_runs
from edgefusion.toolchain.reporting.page.traffic import (
    by_component_and_cause,
    by_op,
    by_tensor,
    moved_again,
)
from edgefusion.toolchain.reporting.page.what_if import what_ifs
from edgefusion.toolchain.reporting.sram_occupancy import sram_occupancy

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.compiler.bundle.manifest import Manifest
    from edgefusion.toolchain.profiling.scenario import Scenario

REPORT_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Findings:
    """What a report has besides the profile, all of it may be missing: rows of
    ``costliest_tilings`` and ``what_ifs``, what passes remarked (texts by component), and what
    ``verify --json`` wrote."""

    tiles: Sequence[Mapping[str, Any]] = ()
    what_ifs: Sequence[Mapping[str, Any]] = ()
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    verification: Mapping[str, Any] | None = None


def find(bundle: Bundle, profile: Profile, top: int, with_what_ifs: bool, say: Say) -> Findings:
    """Search tilings and time what would help, for the ``top`` costliest ops; read what passes
    remarked."""
    return Findings(
        costliest_tilings(bundle, profile, top, say),
        what_ifs(bundle, profile, top, say) if with_what_ifs else (),
        {name: [str(remark) for remark in bundle.remarks(name)] for name in bundle.components},
    )


def bundle_document(
    bundle: Bundle,
    scenario: Scenario | None = None,
    *,
    label: str | None = None,
    top: int,
    with_what_ifs: bool,
    verification: Mapping[str, Any] | None = None,
    progress: Say = silent,
) -> dict[str, Any]:
    """Time ``bundle`` and find what a report has besides; its document."""
    profile = profile_bundle(bundle, scenario, progress=progress)
    if label is not None:
        profile = replace(profile, label=label)
    findings = find(bundle, profile, top, with_what_ifs, progress)
    return report_document(profile, replace(findings, verification=verification))


def heading(documents: Sequence[Mapping[str, Any]]) -> str:
    """What a page of these documents is called where nothing else is said."""
    return ", ".join(each["made_from"]["bundle"] for each in documents)


def report_document(profile: Profile, findings: Findings) -> dict[str, Any]:
    """The document of one bundle."""
    latency = latency_document(profile)
    ranking = _ranking(profile)
    limits = _limits(profile)
    tensors = by_tensor(profile)
    parameters = parameter_rows(profile.scenario.target)
    return {
        "schema_version": REPORT_SCHEMA_VERSION,
        "made_from": _made_from(profile),
        "verdict": _verdict(profile, limits),
        "limited_by": limits,
        "latency": latency,
        "engines": [row for c in profile.components for row in engine_times(c)],
        "timeline": _timeline(profile),
        "sram": [_sram(c, profile) for c in profile.components],
        "traffic": traffic_document(profile),
        "traffic_rows": {
            "causes": by_component_and_cause(profile),
            "ops": by_op(profile),
            "tensors": tensors,
            "again": moved_again(tensors),
        },
        "roofline": {
            "dram_bytes_per_s": profile.scenario.machine.dma_bandwidth_bytes_per_s,
            "roofs": machine_roofs(profile.scenario.machine),
            "points": roofline_points(profile),
        },
        "ops": ranking,
        "passes": _passes(profile.manifest),
        "host_ops": _host_ops(profile.manifest),
        "host_calls": _of_components(profile.manifest, "host_calls"),
        "tiles": list(findings.tiles),
        "what_ifs": list(findings.what_ifs),
        "calibration": {
            "parameters": parameters,
            "statuses": status_counts(parameters),
            "description": profile.scenario.target.description,
            "residuals": residuals(profile.scenario.machine),
        },
        "remarks": {name: list(texts) for name, texts in findings.remarks.items()},
        "verification": findings.verification,
    }


def _made_from(profile: Profile) -> dict[str, Any]:
    manifest, scenario = profile.manifest, profile.scenario
    return {
        "bundle": profile.label,
        "source_kind": manifest.source.kind,
        "source_name": manifest.source.name,
        "source_digest": manifest.source.digest,
        "source_seed": manifest.source.seed,
        "target": scenario.machine.name,
        "target_digest": scenario.machine.digest,
        "schedule": scenario.schedule,
        "steps": scenario.steps,
        "cost_model_version": manifest.cost_model_version,
        "tool_version": manifest.tool_version,
        "changes": dict(scenario.changes),
        "precision": {
            c.name: manifest.component(network_of(c.name)).precision for c in profile.components
        },
        "of": total_label([c.name for c in profile.components]),
    }


def _ranking(profile: Profile) -> list[dict[str, Any]]:
    """All ops, costliest first; ``index`` is the op's place in ``latency``."""
    places = {id(op): index for index, op in enumerate(profile.ops)}
    rows, passed = [], 0.0
    for rank, op in enumerate(profile.costliest(), start=1):
        passed += op.share
        rows.append(
            {
                "rank": rank,
                "index": places[id(op)],
                "path": op.path,
                "cumulative_percent": 100 * passed,
                "image_bytes": op.evaluations * op.dram_bytes,
            }
        )
    return rows


def _limits(profile: Profile) -> dict[str, float]:
    """Percent of the image that goes to ops limited by each kind of engine, the most first."""
    shares = dict.fromkeys(EngineKind, 0.0)
    for op in profile.ops:
        shares[op.limited_by] += 100 * op.share
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return {kind.name.lower(): share for kind, share in ranked}


_CALLED = {"dma": "DMA", "tensor": "the tensor engine", "vector": "the vector engine"}


def _verdict(profile: Profile, limits: Mapping[str, float]) -> str:
    """One sentence: how long, what limits it, and how far it is from its bound."""
    (first, most), (second, next_most) = list(limits.items())[:2]
    latency = profile.latency
    sentence = (
        f"{latency.total_ms:,.1f} ms for {total_label([c.name for c in profile.components])}: "
        f"limited by {_CALLED.get(first, 'the host')} for {most:.0f} % of it"
    )
    if next_most >= 1:
        sentence += f" and by {_CALLED.get(second, 'the host')} for {next_most:.0f} %"
    if latency.bound_ps:
        times = latency.total_ps / latency.bound_ps
        sentence += f"; {times:.2f} times its bound of {latency.bound_ps / PS_PER_MS:,.1f} ms"
    return sentence + f". {profile.dram_bytes / 1e6:,.0f} MB cross the DRAM bus."


def _timeline(profile: Profile) -> dict[str, Any]:
    return {
        "causes": [cause.name.lower() for cause in Cause],
        "components": [
            {
                "name": c.name,
                "evaluations": c.evaluations,
                "total_us": c.timeline.total_ps / PS_PER_US,
                "engines": list(c.timeline.engines),
                "kinds": [kind.name.lower() for kind in c.timeline.kinds],
                "ops": [[op.scope or op.name, op.name, op.kind, op.tile] for op in c.program.ops],
                "runs": timeline_runs(c),
            }
            for c in profile.components
        ],
    }


def _sram(component: ComponentProfile, profile: Profile) -> dict[str, Any]:
    occupancy = sram_occupancy(component)
    return {
        "component": component.name,
        "limit_bytes": profile.scenario.machine.sram_bytes,
        "laid_out_bytes": component.program.sram_bytes,
        "peak_bytes": occupancy.peak_bytes,
        "mean_bytes": occupancy.mean_bytes(component.timeline.total_ps),
        "at_us": (occupancy.at_ps / PS_PER_US).tolist(),
        "in_use_bytes": occupancy.in_use_bytes.tolist(),
    }


def _passes(manifest: Manifest) -> list[dict[str, Any]]:
    """What each pass did, by component; passes that found nothing are left out."""
    return [
        {"component": info.name, **asdict(each)}
        for info in manifest.components
        for each in info.passes
        if each.matched or each.missed
    ]


def _host_ops(manifest: Manifest) -> list[dict[str, Any]]:
    """A row a reason of a host function, with its ``ops`` and the source nodes that they stand
    for."""
    groups: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for info in manifest.components:
        for op in info.host_ops:
            group = groups.setdefault((info.name, op.function, op.reason), {})
            group[op.op] = list(op.origin)
    return [
        {"component": component, "function": function, "reason": reason, "ops": ops}
        for (component, function, reason), ops in groups.items()
    ]


def _of_components(manifest: Manifest, attribute: str) -> list[dict[str, Any]]:
    return [
        {"component": info.name, **asdict(each)}
        for info in manifest.components
        for each in getattr(info, attribute)
    ]


def comparison(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a bundle, for several side by side; ``total_change_percent`` is from the first."""
    first = documents[0]["latency"]["pipeline"]["total_ms"]
    rows = []
    for document in documents:
        latency, traffic = document["latency"], document["traffic"]
        total = latency["pipeline"]["total_ms"]
        rows.append(
            {
                **document["made_from"],
                "total_ms": total,
                "total_change_percent": 100 * (total - first) / first if first else 0.0,
                "bound_ms": latency["pipeline"]["bound_ms"],
                "components_ms": {
                    name: entry["evaluations"] * entry["latency_ms"]
                    for name, entry in latency["components"].items()
                },
                "image_bytes": traffic["total_bytes"],
                "image_bytes_by_cause": traffic["by_cause"],
                "peak_sram_bytes": max((row["peak_bytes"] for row in document["sram"]), default=0),
                "limited_by": document["limited_by"],
            }
        )
    return rows
