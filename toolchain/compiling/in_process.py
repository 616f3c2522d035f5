"""One graph compiled and ready to run, all in memory: for tests, suites and other programs.

The same steps as ``compilation``, without calibration (so ops are FP16) and without a bundle.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.host import HostFunctions, load_host
from edgefusion.runtime.host_signature import HostManifest
from edgefusion.runtime.progress import silent
from edgefusion.toolchain.compiling.hosting import host_build
from edgefusion.toolchain.running.ports import declared_outputs

if TYPE_CHECKING:
    from edgefusion.compiler.graph.graph import Graph
    from edgefusion.runtime.machine import Machine

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]

SCHEDULE = "mlt"
"""Values are the same under each; this one is made fastest."""


def compiled_in_process(model: onnx.ModelProto, machine: Machine, *, host: str = "ort") -> Run:
    """``model``, weights inside, as a callable on the simulated NPU: arrays by name, in and out.

    ``host`` functions run in ONNX Runtime (``ort``), or are compiled (``tvm``), which takes a
    second. Raises the errors of ``runtime.errors`` for what cannot be compiled.
    """
    from edgefusion.compiler.frontend.from_graph import network_from_graph
    from edgefusion.compiler.graph.graph import Graph
    from edgefusion.compiler.graph.model_check import check_model
    from edgefusion.compiler.lowering.lower import lower
    from edgefusion.models.onnx_source import imported
    from edgefusion.passes.pass_base import PassContext
    from edgefusion.passes.pass_manager import PassManager
    from edgefusion.passes.pipeline import default_passes
    from edgefusion.runtime.executor import Executor

    check_model(model)
    graph = Graph.from_model(imported(model))
    PassManager(default_passes()).run(graph, PassContext(machine))
    network = network_from_graph(graph, "model")
    program = lower(network, machine, schedule_named(SCHEDULE), silent).program
    constants = {tensor.name: np.asarray(tensor.values()) for tensor in graph.constants}
    hosts = _host_functions(graph, constants, host)
    executor = Executor(program, machine, constants, hosts=hosts.functions)
    inputs = {tensor.name: (tensor.shape, tensor.dtype) for tensor in graph.inputs}
    declared = graph.to_model(with_weights=False).graph

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        for name, (shape, _) in inputs.items():
            if name not in feeds or np.shape(feeds[name]) != shape:
                found = list(np.shape(feeds[name])) if name in feeds else "none"
                raise InputError(f"expected the input {name} of shape {list(shape)}, found {found}")
        given = {name: np.asarray(feeds[name], dtype) for name, (_, dtype) in inputs.items()}
        return declared_outputs(declared, given, executor.run(given).outputs)

    return run


def _host_functions(graph: Graph, constants: Mapping[str, Array], host: str) -> HostFunctions:
    from edgefusion.compiler.frontend.placement import host_groups
    from edgefusion.compiler.host.functions import host_models, signatures
    from edgefusion.compiler.host.reference import check_reference

    if host == "ort":
        models = host_models(graph)
        for group, model in zip(host_groups(graph), models, strict=True):
            check_reference(group, model)
        members = {f"{each.signature.name}.onnx": each.model for each in models}
        manifest = HostManifest(signatures(models), None)
        return load_host(manifest, members.__getitem__, constants, host)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        build = stack.enter_context(host_build(graph, folder))
        return load_host(build.finish(), lambda name: (folder / name).read_bytes(), constants, host)
