"""One component through all stages: export, passes, lowering, simulation, weights on disk.

One component is in memory at a time, and of its weights one tensor; what a bundle needs of it ends
as files in the workspace's staging folder, shared by all schedules but for the programs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.archive import member_info
from edgefusion.compiler.bundle.check import REMARKS
from edgefusion.compiler.bundle.manifest import ComponentInfo, MemberInfo, PassInfo
from edgefusion.compiler.bundle.remarks import remarks_bytes
from edgefusion.compiler.bundle.scales import PLACEHOLDER
from edgefusion.passes.optimise import optimise
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.latency import ComponentLatency
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
    from edgefusion.compiler.network.network import Network
    from edgefusion.compiler.schedule.schedule import Schedule
    from edgefusion.models.source import Source
    from edgefusion.passes.pass_manager import PassRecord
    from edgefusion.toolchain.accuracy.import_check import ImportCheck


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
    vectors: ReferenceVectors | None = None
    """What its source made of inputs that calibration does not see, where that was asked."""


def compile_component(
    source: Source,
    component: str,
    evaluations: int,
    earlier: Sequence[CompiledComponent],
    settings: Settings,
    workspace: Workspace,
    stopwatch: Stopwatch,
) -> CompiledComponent:
    """Run all stages; ``earlier`` components are those before it in the pipeline. Raises what they
    raise, and DoesNotFitError for an exceeded budget."""
    from edgefusion.compiler.frontend.from_graph import network_from_graph
    from edgefusion.toolchain.compiling.source_comparison import SourceComparison

    say = settings.progress
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
    folder = workspace.staging / component
    say(f"{component}: writing weights")
    with stopwatch.stage(component, "weights"), disk_errors(folder):
        folder.mkdir(parents=True)
        graph_file, weights_file = folder / "graph.onnx", folder / "weights.safetensors"
        graph.save(graph_file, weights_file)
        remarks_file = folder / REMARKS
        remarks_file.write_bytes(remarks_bytes(r for each in records for r in each.remarks))
        written = (graph_file, weights_file, remarks_file)
        files = {f"{component}/{path.name}": path for path in written}
        members = {name: member_info(path) for name, path in files.items()}
    # 4. The source's own values, against those of the graph just written
    with stopwatch.stage(component, "source"):
        if needs_scales(network) and not settings.calibration.is_wanted(component):
            compared = comparison.left_out("without calibration it has no values")
        else:
            before = {c.name: c.vectors for c in earlier if c.vectors is not None}
            compared = comparison.compare(graph_file, before)
        files |= compared.files
    # 5. Scales of INT16 activations, from the graph just written
    scales = uncalibrated(network)
    if needs_scales(network) and settings.calibration.is_wanted(component):
        with stopwatch.stage(component, "calibration"):
            scales = component_scales(
                source, component, graph_file, network, settings.calibration, workspace, say
            )
    # 6. Lowering, verification and simulation, for each schedule
    shared = ComponentInfo(
        component,
        settings.recipe.precision_of(component),
        evaluations,
        instructions=0,
        sram_bytes=0,
        dram_bytes=0,
        passes=tuple(PassInfo(r.name, r.matched, r.missed) for r in records),
        host_ops=host_ops(graph),
        scales=scales.info,
        timesteps=settings.timesteps_of(component) if _tabulated(records) else (),
        constant_inputs=network.constant_inputs,
    )
    programs = {}
    with host_build(graph, folder) as build:
        for schedule in settings.schedules:
            with stopwatch.stage(component, f"lowering {schedule.name}"):
                programs[schedule.name] = _program(
                    network,
                    shared,
                    schedule,
                    settings,
                    folder,
                    scales.values,
                    source.deployment.passes,
                )
        begin = time.perf_counter()
        host = host_files(build, component, say)
        if host.files:
            took = time.perf_counter() - begin
            stopwatch.times.append(StageTime(component, "host library (rest)", took))
    programs = {
        name: replace(p, info=with_backends(p.info, host.manifest)) for name, p in programs.items()
    }
    # 7. Once through the program, which any schedule gives the same values
    with stopwatch.stage(component, "dry run"):
        first = programs[settings.schedules[0].name]
        dry_component(
            graph,
            Program.load(first.file),
            settings.machine,
            host,
            timesteps=first.info.timesteps,
            has_values=first.info.scales.method != PLACEHOLDER,
        )
    # 8. What all schedules share
    files |= {**host.files, **scales.files}
    del graph, network
    gc.collect()  # graphs are cyclic
    return CompiledComponent(
        component, files, members, programs, records, compared.check, compared.vectors
    )


def _quantized_already(records: Sequence[PassRecord]) -> str:
    from edgefusion.passes.remove_qdq import RemoveQdq, advice

    return advice([r for each in records if each.name == RemoveQdq.name for r in each.remarks])


def _tabulated(records: Sequence[PassRecord]) -> bool:
    from edgefusion.passes.tabulate_timestep import TabulateTimestep

    return any(record.name == TabulateTimestep.name and record.matched for record in records)


def _program(
    network: Network,
    shared: ComponentInfo,
    schedule: Schedule,
    settings: Settings,
    folder: Path,
    scales: Mapping[str, float],
    prompts: int,
) -> CompiledProgram:
    from edgefusion.compiler.lowering.lower import lower
    from edgefusion.compiler.network.scales import with_scales
    from edgefusion.runtime.measurement import component_latency
    from edgefusion.runtime.program_parts import runs_of
    from edgefusion.runtime.verifier import verify_program

    say, component = settings.progress, shared.name
    program = lower(network, settings.machine, schedule, say).program
    if scales:
        program = with_scales(program, scales)
    settings.budgets.check_program(program)
    say(f"{component}: verifying {len(program)} instructions")
    verify_program(program, settings.machine)
    say(f"{component}: simulating {len(program)} instructions")
    runs = runs_of(program, shared.evaluations, prompts)
    latencies = tuple((component_latency(part, settings.machine), n) for part, n in runs)
    file = folder / f"{schedule.name}.npz"
    with disk_errors(file):
        program.save(file)
        member = member_info(file)
    info = replace(
        shared,
        instructions=len(program),
        sram_bytes=program.sram_bytes,
        dram_bytes=program.dram_bytes,
        host_calls=host_calls(program),
    )
    return CompiledProgram(info, file, member, latencies)
