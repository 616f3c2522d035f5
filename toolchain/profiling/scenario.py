"""What a bundle is timed on: its own machine, schedule and steps, or others ("what if").

Nothing but the bundle is needed. Where only rates change, its program is timed as it is, with the
bounds of the other machine; where sizes change (what programs are laid out for), or the schedule,
the bundle's network is lowered again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.arguments import whole_number
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.machine import ENGINE_KEYS, Machine
from edgefusion.runtime.pipeline_roles import denoiser_of, network_of, runs_each_step
from edgefusion.runtime.program_parts import prompt_runs
from edgefusion.runtime.progress import Say, silent
from edgefusion.runtime.settings import parse_settings, setting_text
from edgefusion.runtime.target import Target, target_given, target_of
from edgefusion.runtime.verifier import verify_program
from edgefusion.toolchain.profiling.pipeline import denoiser_runs

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.compiler.bundle.manifest import Manifest
    from edgefusion.runtime.program import Program

SIZES = ("sram_bytes", "sram_align_bytes", "dram_bytes", *ENGINE_KEYS)
"""Parameters that a program is laid out for: with others it may be wrong, not only slow."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A target, a schedule and a number of steps. ``changes`` maps what differs from the bundle's
    to its value, for reports; ``lower_again`` asks for new programs whatever changed."""

    target: Target
    schedule: str
    steps: int
    changes: Mapping[str, int | float | str]
    lower_again: bool = False

    @property
    def machine(self) -> Machine:
        """The machine that is simulated."""
        return self.target.machine

    def evaluations(self, bundle: Bundle, component: str) -> int:
        """How often ``component`` runs for one image, or its part that runs once a prompt.

        Raises UsageError for other steps than the bundle's that its scheduler cannot do, where the
        scheduler decides how often the denoiser runs.
        """
        network = network_of(component)
        if not runs_each_step(network) or self.steps == bundle.manifest.steps:
            runs = bundle.manifest.component(network).evaluations
        else:
            runs = denoiser_runs(bundle, self.steps)
        prompts = bundle.manifest.deployment.passes
        return runs if component == network else prompt_runs(runs, prompts)

    def __str__(self) -> str:
        return ", ".join(
            f"{key}={value}" if isinstance(value, str) else f"{key}={setting_text(key, value)}"
            for key, value in self.changes.items()
        )

    def __repr__(self) -> str:
        changes = f"; {self}" if self.changes else ""
        return f"<Scenario {self.schedule} on {self.machine.name}, {self.steps} steps{changes}>"


def scenario_of(
    bundle: Bundle,
    *,
    settings: Sequence[str] = (),
    target: str | Path | Target | Machine | None = None,
    schedule: str | None = None,
    steps: int | None = None,
    lower_again: bool = False,
) -> Scenario:
    """The bundle's own scenario, with what is given in place of its own.

    ``settings`` are ``KEY=VALUE`` texts of machine parameters, over ``target`` (a name, a file, or
    a machine; the bundle's own when left out). Raises UsageError and InputError for what is not
    there or cannot be.
    """
    manifest = bundle.manifest
    own = target_of(manifest.target)
    chosen = own if target is None else target_given(target)
    values = parse_settings(settings, chosen.machine)
    asked = schedule_named(manifest.schedule if schedule is None else schedule).name
    count = manifest.steps if steps is None else whole_number(steps, "steps", least=1)
    if steps is not None and denoiser_of(bundle.components) is None:
        raise UsageError(f"{bundle.path} has no denoiser (unet) that could run {steps} steps.")
    changes: dict[str, int | float | str] = {}
    if chosen.machine.digest != manifest.target.digest:
        changes["target"] = chosen.machine.name
    before = chosen.machine.flat_parameters()
    edited = chosen.with_values(values)
    changes |= {key: value for key, value in values.items() if value != before[key]}
    if asked != manifest.schedule:
        changes["schedule"] = asked
    if count != manifest.steps:
        changes["steps"] = count
    return Scenario(edited, asked, count, changes, lower_again)


def program_for(
    bundle: Bundle,
    component: str,
    scenario: Scenario,
    *,
    verify: bool = True,
    progress: Say = silent,
) -> Program:
    """A component's program for a scenario: as it is, with other bounds, or lowered again.

    Raises DoesNotFitError where no tiling of an op fits the scenario's machine.
    """
    machine, schedule = scenario.machine, schedule_named(scenario.schedule)
    built_for, again = bundle.machine, lowers_again(scenario, bundle.manifest)
    if not again and machine.digest == built_for.digest:
        return bundle.program(component, verify=verify)
    from edgefusion.compiler.lowering.lower import lower, rebound

    if not again:
        program = bundle.program(component, verify=verify)
    else:
        # Under another schedule alone it is the program that compiling so had made.
        if scenario.lower_again or _is_resized(scenario, bundle.manifest):
            built_for = machine
        program = lower(bundle.network(component), built_for, schedule, progress).program
        if verify:
            verify_program(program, built_for)
    if machine.digest == built_for.digest:
        return program
    bound = rebound(program, bundle.network(component), machine, schedule)
    return replace(bound, target=machine.name)


def lowers_again(scenario: Scenario, manifest: Manifest) -> bool:
    """Whether a scenario takes programs of its own, or the bundle's serve."""
    if scenario.lower_again or scenario.schedule != manifest.schedule:
        return True
    return _is_resized(scenario, manifest)


def _is_resized(scenario: Scenario, manifest: Manifest) -> bool:
    asked, own = scenario.machine.flat_parameters(), manifest.target.flat_parameters()
    return any(asked[key] != own[key] for key in SIZES)
