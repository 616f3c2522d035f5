"""Networks and programs of the presets, made when asked for and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.partials import partial_folder
from edgefusion.runtime.pipeline_roles import runs_each_step
from edgefusion.runtime.program import Program
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from edgefusion.compiler.network.network import Network
    from edgefusion.models.source import Source


@dataclass
class Programs:
    """Programs by preset, component and schedule, compiled for ``machine`` on first use: by the
    paper's method, which leaves convolutions of doubled images as they are.

    Weights are random: neither tiling nor timing looks at their values.
    """

    machine: Machine
    progress: Say | None = None
    networks: dict[tuple[str, str], Network] = field(default_factory=dict)
    programs: dict[tuple[str, str, str], Program] = field(default_factory=dict)

    def program(self, preset: str, component: str, schedule: str) -> Program:
        """The program, compiled if it was not yet."""
        key = (preset, component, schedule)
        if key not in self.programs:
            network = self.network(preset, component)
            self._say(f"compile {preset} {component} ({schedule})")
            self.programs[key] = lower(network, self.machine, schedule_named(schedule)).program
        return self.programs[key]

    def for_machine(self, machine: Machine) -> Programs:
        """The same networks for another machine, what runs on the host included."""
        return Programs(machine, self.progress, self.networks)

    def network(self, preset: str, component: str) -> Network:
        """The network, exported and optimised if it was not yet."""
        from edgefusion.models.source import resolve_source

        key = (preset, component)
        if key not in self.networks:
            self._say(f"export {preset} {component}")
            source = resolve_source(preset, random_weights_seed=0)
            self.networks[key] = build_network(
                source, component, self.machine, self._say, transposing=False
            )
        return self.networks[key]

    def _say(self, text: str) -> None:
        if self.progress is not None:
            self.progress(text)


def build_network(
    source: Source, component: str, machine: Machine, say: Say, *, transposing: bool
) -> Network:
    """Export a component and run all passes for ``machine``; without ``transposing``, convolutions
    of doubled images stay convolutions."""
    (network,) = build_networks(source, component, machine, say, (transposing,))
    return network


def build_networks(
    source: Source, component: str, machine: Machine, say: Say, transposing: Sequence[bool]
) -> list[Network]:
    """As ``build_network``, one for each of ``transposing``, of one export."""
    from edgefusion.compiler.frontend.from_graph import network_from_graph
    from edgefusion.models.export import export_component
    from edgefusion.models.trajectories import tabulated_timesteps
    from edgefusion.passes.optimise import optimise
    from edgefusion.passes.pipeline import default_passes

    timesteps = tabulated_timesteps(source) if runs_each_step(component) else ()
    with partial_folder() as folder:
        exported = export_component(source, component, folder)
        networks = []
        for each in transposing:
            passes = default_passes(timesteps=timesteps, transposing=each)
            graph, _ = optimise(exported, component, machine, passes, say)
            network = network_from_graph(graph, component)
            constant = source.family.constant_inputs(component, network.inputs)
            networks.append(replace(network, constant_inputs=constant))
        return networks
