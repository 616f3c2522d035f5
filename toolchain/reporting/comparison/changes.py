"""What differs between two profiles' bundles and what they were timed on, whatever it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from edgefusion.compiler.bundle.check import WEIGHTS
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.pipeline_roles import network_of
from edgefusion.toolchain.profiling.profile import Profile


class Reason(StrEnum):
    """What a difference comes from, in the order in which ``diff`` attributes it."""

    STEPS = "steps"
    TARGET = "target"
    GRAPH = "graph"
    PRECISION = "precision"
    SCHEDULE = "schedule"
    OVERLAP = "overlap"
    COST_MODEL = "cost model"
    TOOL = "tool"
    GROUPS = "groups"
    TILES = "tiles"
    INSTRUCTIONS = "instructions"


@dataclass(frozen=True, slots=True)
class Change:
    """``what`` was ``before``, and is ``after``."""

    reason: Reason
    what: str
    before: str
    after: str


def changes_between(a: Profile, b: Profile) -> tuple[Change, ...]:
    """All of them: of settings and versions, of the source, of the machine."""
    return (*_differing(_facts(a), _facts(b)), *parameter_changes(*_machines(a, b)))


def parameter_changes(a: Machine, b: Machine) -> tuple[Change, ...]:
    """Parameters of a target that differ, in its order."""
    facts = (
        [(Reason.TARGET, key, f"{value:,.12g}") for key, value in machine.flat_parameters().items()]
        for machine in (a, b)
    )
    return tuple(_differing(*facts))


def _machines(a: Profile, b: Profile) -> tuple[Machine, Machine]:
    return a.scenario.machine, b.scenario.machine


def _facts(profile: Profile) -> list[tuple[Reason, str, str]]:
    manifest, scenario = profile.manifest, profile.scenario
    facts = [
        (Reason.STEPS, "steps", str(scenario.steps)),
        (Reason.TARGET, "target", scenario.machine.name),
        (Reason.GRAPH, "source", f"{manifest.source.kind} {manifest.source.name}"),
        (Reason.GRAPH, "components", ", ".join(each.name for each in profile.components)),
        (Reason.SCHEDULE, "schedule", scenario.schedule),
        (Reason.COST_MODEL, "cost model version", str(manifest.cost_model_version)),
        (Reason.TOOL, "tool version", manifest.tool_version),
    ]
    for component in profile.components:
        info, name = manifest.component(network_of(component.name)), component.name
        facts.append((Reason.PRECISION, f"precision of {name}", info.precision))
        facts.append((Reason.PRECISION, f"scales of {name}", info.scales.method))
        if weights := manifest.members.get(f"{name}/{WEIGHTS}"):
            facts.append((Reason.GRAPH, f"weights of {name}", f"sha256 {weights.sha256[:12]}"))
    return facts


def _differing(
    a: list[tuple[Reason, str, str]], b: list[tuple[Reason, str, str]]
) -> Iterator[Change]:
    """Facts of both sides that are not the same; those of one component alone are its own."""
    after = {(reason, what): value for reason, what, value in b}
    for reason, what, before in a:
        now = after.get((reason, what), before)
        if now != before:
            yield Change(reason, what, before, now)
