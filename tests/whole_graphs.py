"""A small ONNX graph through the whole compiler and on the simulated NPU, without a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.compiler.frontend.from_graph import network_from_graph
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.host.functions import host_models
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.network.scales import assign_scales, with_scales
from edgefusion.compiler.schedule.schedule import SCHEDULES
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.host_ort import ort_function
from edgefusion.runtime.isa import DType
from edgefusion.toolchain.accuracy.calibration import Workload, calibrate
from edgefusion.toolchain.accuracy.calibration_file import Identity
from edgefusion.toolchain.running.ports import declared_outputs
from tests.graph_cases import CONTEXT

Array = npt.NDArray[Any]
Values = Mapping[str, Array]

ALL_SCHEDULES = tuple(schedule.name for schedule in SCHEDULES)


def on_npu(
    model: onnx.ModelProto,
    feeds: Values,
    precision: str = "fp16",
    schedules: Sequence[str] = ALL_SCHEDULES,
) -> dict[str, dict[str, Array]]:
    """The outputs of ``model`` by schedule; host functions run in ONNX Runtime, and ranges of INT16
    activations are those of ``feeds``. Raises what compiling and running raise."""
    graph = Graph.from_model(model)
    PassManager(default_passes(precision)).run(graph, CONTEXT)
    network = network_from_graph(graph, "model")
    constants = {tensor.name: tensor.values() for tensor in graph.constants}
    hosts = {
        made.signature.name: ort_function(made.signature, made.model, constants)
        for made in host_models(graph)
    }
    scales = _scales(graph, network, feeds)
    ports = graph.to_model(with_weights=False).graph
    found = {}
    for schedule in SCHEDULES:
        if schedule.name in schedules:
            program = with_scales(lower(network, CONTEXT.machine, schedule).program, scales)
            executor = Executor(program, CONTEXT.machine, constants, hosts=hosts)
            found[schedule.name] = declared_outputs(ports, feeds, executor.run(feeds).outputs)
    return found


def _scales(graph: Graph, network: Network, feeds: Values) -> Mapping[str, float]:
    if all(tensor.dtype is not DType.INT16 for tensor in network.tensors.values()):
        return {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "graph.onnx"
        graph.save(path, folder / "weights.safetensors")
        workload = Workload(1, lambda run: (run(feeds), None)[1])
        identity = Identity("model", "", "model", "", "synthetic", (), (), 0)
        return assign_scales(network, calibrate(path, network, identity, workload).ranges())


def agrees(found: Array, wanted: Array, precision: str) -> bool:
    """Whether ``found`` is ``wanted`` up to the precision; other types than floats exactly."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(found, wanted))
    relative = 0.01 if precision == "fp16" else 0.1
    error = np.abs(found.astype(np.float64) - wanted)
    size = float(np.abs(wanted.astype(np.float64)).max(initial=0.0))
    return bool(np.isfinite(found).all() and error.max(initial=0.0) <= relative * (size + 0.3))
