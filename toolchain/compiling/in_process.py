"""One graph compiled and ready to run, all in memory: for tests, suites and other programs.

The same steps as ``compilation``, without calibration (so ops are FP16) and without a bundle.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.host import load_host
from edgefusion.runtime.host_signature import HostFunction, HostManifest
from edgefusion.runtime.progress import silent
from edgefusion.toolchain.running.ports import declared_outputs, declared_ports

if TYPE_CHECKING:
    from edgefusion.compiler.host.functions import HostModel
    from edgefusion.runtime.machine import Machine
    from edgefusion.runtime.program import Program

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]
Hosts = Mapping[str, HostFunction]

SCHEDULE = "mlt"
"""Values are the same under each; this one is made fastest."""


@dataclass(frozen=True, slots=True, eq=False)
class InProcess:
    """A compiled graph: its ports, program and constants, and the models of its host functions."""

    declared: onnx.GraphProto
    program: Program
    machine: Machine
    constants: Mapping[str, Array]
    models: tuple[HostModel, ...]

    def run_with(self, hosts: Hosts) -> Run:
        """A callable on the simulated NPU: arrays by name, in and out. Raises InputError for
        inputs of other shapes than the graph's."""
        from edgefusion.runtime.executor import Executor

        executor = Executor(self.program, self.machine, self.constants, hosts=hosts)
        ports = declared_ports(self.declared.input)

        def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
            given = {}
            for port in ports:
                name, shape = port.name, list(port.shape)
                found = list(np.shape(feeds[name])) if name in feeds else "none"
                if found != shape:
                    raise InputError(f"expected the input {name} of shape {shape}, found {found}")
                given[name] = np.asarray(feeds[name], port.dtype)
            return declared_outputs(self.declared, given, executor.run(given).outputs)

        return run


def compiled_in_process(model: onnx.ModelProto, machine: Machine) -> InProcess:
    """Compile ``model``, weights inside. Raises the errors of ``runtime.errors`` for what cannot
    be compiled."""
    from edgefusion.compiler.frontend.from_graph import network_from_graph
    from edgefusion.compiler.frontend.placement import host_groups
    from edgefusion.compiler.graph.graph import Graph
    from edgefusion.compiler.graph.model_check import check_model
    from edgefusion.compiler.host.functions import host_models
    from edgefusion.compiler.host.reference import check_reference
    from edgefusion.compiler.lowering.lower import lower
    from edgefusion.models.onnx_source import imported
    from edgefusion.passes.pass_base import PassContext
    from edgefusion.passes.pass_manager import PassManager
    from edgefusion.passes.pipeline import default_passes

    check_model(model)
    graph = Graph.from_model(imported(model))
    PassManager(default_passes()).run(graph, PassContext(machine))
    network = network_from_graph(graph, "model")
    models = host_models(graph)
    for group, host in zip(host_groups(graph), models, strict=True):
        check_reference(group, host)
    return InProcess(
        graph.to_model(with_weights=False).graph,
        lower(network, machine, schedule_named(SCHEDULE), silent).program,
        machine,
        {tensor.name: np.asarray(tensor.values()) for tensor in graph.constants},
        models,
    )


def ort_hosts(compiled: InProcess) -> Hosts:
    """The host functions of ``compiled``, in ONNX Runtime."""
    members = {f"{each.signature.name}.onnx": each.model for each in compiled.models}
    manifest = HostManifest(tuple(each.signature for each in compiled.models), None)
    return load_host(manifest, members.__getitem__, compiled.constants, "ort").functions


def tvm_hosts(compiled: Sequence[InProcess]) -> list[Hosts]:
    """The host functions of each of ``compiled``, made by TVM, all in one process; where it cannot,
    or computes something else, ONNX Runtime's."""
    from edgefusion.compiler.host.library import building

    models = [
        replace(host, signature=replace(host.signature, name=f"c{index}_{host.signature.name}"))
        for index, each in enumerate(compiled)
        for host in each.models
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with building(folder, models) as build:
            manifest = build.finish()

        def member(name: str) -> bytes:
            return (folder / name).read_bytes()

        found: list[Hosts] = []
        for index, each in enumerate(compiled):
            prefix = f"c{index}_"
            own = tuple(f for f in manifest.functions if f.name.startswith(prefix))
            part = replace(manifest, functions=own)
            functions = load_host(part, member, each.constants, "tvm").functions
            found.append({name.removeprefix(prefix): f for name, f in functions.items()})
    return found
