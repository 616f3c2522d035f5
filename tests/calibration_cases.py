"""The optimised U-Net of ``tiny-test`` on disk, with its network, as calibration takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.compiler.frontend.from_graph import network_from_graph
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.network.network import Network
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.toolchain.running.segments import session
from tests.graph_cases import CONTEXT

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Optimised:
    """``graph.onnx`` with its weights beside it, and the network."""

    path: Path
    network: Network

    @property
    def model(self) -> onnx.ModelProto:
        """The graph without its weights."""
        return onnx.load(self.path, load_external_data=False)


@cache
def optimised_unet(exports: Path) -> Optimised:
    """Made once a process, in a folder beside the exports."""
    graph = Graph.load(exports / "unet.onnx")
    PassManager(default_passes()).run(graph, replace(CONTEXT, component="unet"))
    folder = exports.with_name(f"{exports.name}-optimised")  # the exports are others' too
    folder.mkdir(exist_ok=True)
    graph.save(folder / "graph.onnx", folder / "weights.safetensors")
    return Optimised(folder / "graph.onnx", network_from_graph(graph, "unet"))


def feeds(seed: int = 0) -> dict[str, Array]:
    """Inputs of tiny-test's U-Net."""
    rng = np.random.default_rng(seed)
    return {
        "sample": rng.standard_normal((1, 4, 16, 16)).astype(np.float32),
        "timestep": np.array([499]),
        "encoder_hidden_states": rng.standard_normal((1, 77, 32)).astype(np.float32),
    }


def all_values(model: onnx.ModelProto, folder: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    """Every float value of a model of standard ops, computed at once."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    floats = {
        info.name: info
        for info in (*model.graph.value_info, *model.graph.output)
        if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    del shown.graph.output[:]
    shown.graph.output.extend(floats.values())
    results = session(shown, folder).run(list(floats), inputs)
    return dict(zip(floats, map(np.asarray, results), strict=True))
