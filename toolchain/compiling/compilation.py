"""Components through all stages: export, passes, weights on disk, lowering, simulation.

All are begun before any is measured, those first that take longest to lower: their programs are
made by other processes meanwhile. Graphs are in memory, and of weights one tensor; what a bundle
needs of them ends as files in the workspace's staging folder, shared by all schedules but for the
programs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.archive import member_info
from edgefusion.compiler.bundle.check import GRAPH, REMARKS, WEIGHTS
from edgefusion.compiler.bundle.manifest import ComponentInfo, MemberInfo, PassInfo
from edgefusion.compiler.bundle.remarks import remarks_bytes
from edgefusion.compiler.bundle.scales import PLACEHOLDER
from edgefusion.passes.optimise import optimise
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.latency import ComponentLatency
from edgefusion.runtime.pipeline_roles import runs_each_step
from edgefusion.runtime.program import Program
from edgefusion.toolchain.compiling.dry_run import dry_component
from edgefusion.toolchain.compiling.hosting import (
    host_build,
    host_calls,
    host_files,
    host_ops,
    with_backends,
)
from edgefusion.toolchain.compiling.scaling import component_scales, needs_scales, uncalibrated
from edgefusion.toolchain.compiling.settings import Settings
from edgefusion.toolchain.compiling.stopwatch import StageTime, Stopwatch
from edgefusion.toolchain.compiling.workspace import Workspace

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.reference import ReferenceVectors
    from edgefusion.compiler.graph.graph import Graph
    from edgefusion.compiler.host.library import HostBuild
    from edgefusion.compiler.lowering.apart import Lowering
    from edgefusion.compiler.network.network import Network
    from edgefusion.compiler.schedule.schedule import Schedule
    from edgefusion.models.source import Source
    from edgefusion.passes.pass_manager import PassRecord
    from edgefusion.toolchain.accuracy.import_check import ImportCheck
    from edgefusion.toolchain.compiling.scaling import Scales
    from edgefusion.toolchain.compiling.source_comparison import Compared, SourceComparison


@dataclass(frozen=True, slots=True)
class CompiledProgram:
    """A program on disk, for one schedule; ``latencies`` of what it runs for an image, each with
    how often."""

    info: ComponentInfo
    file: Path
    member: MemberInfo
    latencies: tuple[tuple[ComponentLatency, int], ...]


@dataclass(frozen=True, slots=True)
class CompiledComponent:
    """A component on disk: what all schedules share, and a program for each."""

    name: str
    files: Mapping[str, Path]
    members: Mapping[str, MemberInfo]
    programs: Mapping[str, CompiledProgram]
    passes: tuple[PassRecord, ...]
    check: ImportCheck


@dataclass(frozen=True, slots=True)
class Begun:
    """A component that lacks its values and programs. Its graph is in memory, but for weights, and
    what else does not depend on them is on disk; ``lowering`` and ``build`` may be at work."""

    name: str
    graph: Graph
    network: Network
    files: Mapping[str, Path]
    members: Mapping[str, MemberInfo]
    passes: tuple[PassRecord, ...]
    comparison: SourceComparison
    lowering: Lowering
    build: HostBuild

    @property
    def graph_file(self) -> Path:
        """The optimised graph, weights beside it."""
        return self.files[f"{self.name}/{GRAPH}"]


@dataclass(frozen=True, slots=True)
class Values:
    """What was found of a component by running it: how it compares with its source, and the scales
    of its INT16 activations."""

    compared: Compared
    scales: Scales


@dataclass(frozen=True, slots=True)
class Compilation:
    """Of a ``source``, component by component; ``processes`` ends those that are begun for it."""

    source: Source
    settings: Settings
    workspace: Workspace
    stopwatch: Stopwatch
    processes: ExitStack

    def of_all(self, components: Sequence[str], steps: int) -> list[CompiledComponent]:
        """The ``components``, in the pipeline's order; those that each step runs, ``steps`` times.
        Raises what ``begin``, ``measure`` and ``finish`` do."""
        from edgefusion.models.trajectories import evaluations

        begun: dict[str, Begun] = {}
        # What each step runs takes longest to lower.
        for component in sorted(components, key=lambda name: not runs_each_step(name)):
            begun[component] = self.begin(component, busy=len(components) > 1)
        values: dict[str, Values] = {}
        for index, component in enumerate(components):
            known = {name: v.compared.vectors for name, v in values.items()}
            values[component] = self.measure(begun[component], known)
            later = components[index + 1 :]
            kept = self.settings.exports_for(self.source, later)
            self.workspace.release_exports(but=kept.union(later))
        compiled = []
        for component in components:
            count = evaluations(self.source, component, steps)
            compiled.append(self.finish(begun.pop(component), values[component], count))
            gc.collect()  # graphs are cyclic
        return compiled

    def begin(self, component: str, *, busy: bool) -> Begun:
        """All stages before lowering; ``busy``: if there will be something else to do before
        ``finish`` than to measure it. Raises what the stages raise."""
        from edgefusion.compiler.frontend.from_graph import network_from_graph
        from edgefusion.compiler.lowering.apart import lowering
        from edgefusion.toolchain.compiling.source_comparison import SourceComparison

        source, settings, workspace = self.source, self.settings, self.workspace
        stopwatch, say = self.stopwatch, settings.progress
        # 1. Export
        with stopwatch.stage(component, "export"):
            exported = workspace.export(source, component, settings.shapes, say)
        # 2. Passes
        with stopwatch.stage(component, "passes"):
            dump_dir = settings.dump_ir / component if settings.dump_ir else None
            passes = settings.passes(component)
            comparison = SourceComparison(
                source,
                component,
                exported,
                settings.machine,
                settings.timesteps_of(component),
                workspace.staging / f"{component}-unrounded",
                say,
            )
            observe = comparison.observer(passes)
            graph, records = optimise(
                exported, component, settings.machine, passes, say, dump_dir, observe
            )
            network = network_from_graph(graph, component)
            constant = source.family.constant_inputs(component, network.inputs)
            network = replace(network, constant_inputs=constant)
        if told := _quantized_already(records):
            say(f"{component}: {told}")
        # 3. Graph and weights
        folder = self._folder(component)
        say(f"{component}: writing weights")
        with stopwatch.stage(component, "weights"), disk_errors(folder):
            folder.mkdir(parents=True)
            graph.save(folder / GRAPH, folder / WEIGHTS)
            (folder / REMARKS).write_bytes(
                remarks_bytes(r for each in records for r in each.remarks)
            )
            names = (GRAPH, WEIGHTS, REMARKS)
            files = {f"{component}/{name}": folder / name for name in names}
            members = {name: member_info(path) for name, path in files.items()}
        # 4. What other processes do from here on
        calibrated = self._is_calibrated(component, network)
        build = self.processes.enter_context(host_build(graph, folder))
        machine, schedules = settings.machine, settings.schedules
        lowered = self.processes.enter_context(
            lowering(network, machine, schedules, folder, say, busy=busy or calibrated)
        )
        return Begun(component, graph, network, files, members, records, comparison, lowered, build)

    def measure(self, begun: Begun, known: Mapping[str, ReferenceVectors | None]) -> Values:
        """Run the component, and its source; ``known`` are the vectors of components before it in
        the pipeline. Raises what ``compare`` and ``component_scales`` do."""
        component, network = begun.name, begun.network
        calibrated = self._is_calibrated(component, network)
        # 1. The source's own values, against those of the graph as it was written
        with self.stopwatch.stage(component, "source"):
            if needs_scales(network) and not calibrated:
                compared = begun.comparison.left_out("without calibration it has no values")
            else:
                earlier = {name: v for name, v in known.items() if v is not None}
                compared = begun.comparison.compare(begun.graph_file, earlier)
        # 2. Scales of INT16 activations, from the same graph
        if not calibrated:
            return Values(compared, uncalibrated(network))
        with self.stopwatch.stage(component, "calibration"):
            scales = component_scales(
                self.source,
                component,
                begun.graph_file,
                network,
                self.settings.calibration,
                self.workspace,
                self.settings.progress,
            )
        return Values(compared, scales)

    def finish(self, begun: Begun, values: Values, evaluations: int) -> CompiledComponent:
        """All other stages of what an image runs ``evaluations`` times. Raises what these raise,
        and DoesNotFitError for an exceeded budget."""
        settings, stopwatch, component = self.settings, self.stopwatch, begun.name
        info = ComponentInfo(
            component,
            settings.recipe.precision_of(component),
            evaluations,
            instructions=0,
            sram_bytes=0,
            dram_bytes=0,
            passes=tuple(PassInfo(r.name, r.matched, r.missed) for r in begun.passes),
            host_ops=host_ops(begun.graph),
            scales=values.scales.info,
            timesteps=settings.timesteps_of(component) if _tabulated(begun.passes) else (),
            constant_inputs=begun.network.constant_inputs,
        )
        # 1. Lowering, verification and simulation, for each schedule
        rest = " (rest)" if begun.lowering.is_apart else ""
        programs = {}
        for schedule in settings.schedules:
            with stopwatch.stage(component, f"lowering {schedule.name}{rest}"):
                programs[schedule.name] = self._program(begun, info, values.scales, schedule)
        # 2. The host's library
        begin = time.perf_counter()
        host = host_files(begun.build, component, settings.progress)
        if host.files:
            took = time.perf_counter() - begin
            stopwatch.times.append(StageTime(component, "host library (rest)", took))
        programs = {
            name: replace(p, info=with_backends(p.info, host.manifest))
            for name, p in programs.items()
        }
        # 3. Once through the program, which any schedule gives the same values
        with stopwatch.stage(component, "dry run"):
            first = programs[settings.schedules[0].name]
            dry_component(
                begun.graph,
                Program.load(first.file),
                settings.machine,
                host,
                timesteps=first.info.timesteps,
                has_values=first.info.scales.method != PLACEHOLDER,
            )
        # 4. What all schedules share
        return CompiledComponent(
            component,
            {**begun.files, **values.compared.files, **host.files, **values.scales.files},
            begun.members,
            programs,
            begun.passes,
            values.compared.check,
        )

    def _program(
        self, begun: Begun, info: ComponentInfo, scales: Scales, schedule: Schedule
    ) -> CompiledProgram:
        from edgefusion.compiler.network.scales import with_scales
        from edgefusion.runtime.measurement import component_latency
        from edgefusion.runtime.program_parts import runs_of
        from edgefusion.runtime.verifier import verify_program

        component, machine, say = begun.name, self.settings.machine, self.settings.progress
        program = begun.lowering.program(schedule)
        if scales.values:
            program = with_scales(program, scales.values)
        self.settings.budgets.check_program(program)
        say(f"{component}: verifying {len(program)} instructions")
        verify_program(program, machine)
        say(f"{component}: simulating {len(program)} instructions")
        runs = runs_of(program, info.evaluations, self.source.deployment.passes)
        latencies = tuple((component_latency(part, machine), n) for part, n in runs)
        file = self._folder(component) / f"{schedule.name}.npz"
        with disk_errors(file):
            program.save(file)
            member = member_info(file)
        info = replace(
            info,
            instructions=len(program),
            sram_bytes=program.sram_bytes,
            dram_bytes=program.dram_bytes,
            host_calls=host_calls(program),
        )
        return CompiledProgram(info, file, member, latencies)

    def _is_calibrated(self, component: str, network: Network) -> bool:
        return needs_scales(network) and self.settings.calibration.is_wanted(component)

    def _folder(self, component: str) -> Path:
        return self.workspace.staging / component


def _quantized_already(records: Sequence[PassRecord]) -> str:
    from edgefusion.passes.remove_qdq import RemoveQdq, advice

    return advice([r for each in records if each.name == RemoveQdq.name for r in each.remarks])


def _tabulated(records: Sequence[PassRecord]) -> bool:
    from edgefusion.passes.tabulate_timestep import TabulateTimestep

    return any(record.name == TabulateTimestep.name and record.matched for record in records)
