"""What to calibrate a component with: trajectories of its pipeline where there is one.

A component beside a text encoder and a U-Net gets real inputs: the text encoder prompts, the U-Net
every step of their trajectories, the decoder the latents that these end in. What stands alone gets
the nearest thing: a U-Net trajectories with a normal context (that is what CLIP's final norm
leaves), any other graph what is drawn for it (``drawn_inputs``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.models.text_to_image import Network
from edgefusion.models.trajectories import Denoising, Shapes, token_ids
from edgefusion.toolchain.accuracy.calibration import Workload
from edgefusion.toolchain.accuracy.drawn_inputs import drawn_inputs
from edgefusion.toolchain.running.float_network import float_network
from edgefusion.toolchain.running.ports import declared_ports

if TYPE_CHECKING:
    from edgefusion.models.source import Source

Array = npt.NDArray[Any]
Exported = Callable[[str], Path]
"""The FP32 export of a component by name, for what comes before the calibrated one."""

InputKind = Literal["trajectories", "synthetic"]

BEFORE = {
    "text_encoder": (),
    "unet": ("text_encoder",),
    "vae_decoder": ("text_encoder", "unet"),
}
"""What runs before a component of a pipeline, and makes its real inputs."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Prompts, steps and seed; how many trajectories there are follows from the prompts."""

    source: Source
    prompts: tuple[str, ...]
    steps: int
    seed: int = 0

    def kind(self, component: str) -> InputKind:
        """Whether ``component`` gets real inputs."""
        real = component in BEFORE and self.source.kind != "onnx"
        return "trajectories" if real and self._has(BEFORE[component]) else "synthetic"

    def timesteps(self, component: str) -> tuple[int, ...]:
        """The deployed timesteps, for components that see them."""
        if component == "unet" or (component == "vae_decoder" and self._real(component)):
            return Denoising.of(self.source, self.steps).timesteps()
        return ()

    def workload(self, component: str, graph_path: Path, exported: Exported) -> Workload:
        """How to drive the graph at ``graph_path``; ``exported`` makes what it depends on."""
        each = self.steps if component == "unet" else 1

        def drive(run: Network) -> None:
            graph = onnx.load(graph_path, load_external_data=False)
            ports = _ports(graph_path)
            if component == "unet":
                self._trajectories(_as_unet(run, ports), _shapes(ports), exported)
            elif component == "text_encoder" and self._real(component):
                for ids in token_ids(self.source, self.prompts, ports["input_ids"][1][1]):
                    run({"input_ids": ids})
            elif component == "vae_decoder" and self._real(component):
                unet = exported("unet")
                inner = _ports(unet)
                predict = _as_unet(_runner(unet), inner)
                for latent in self._trajectories(predict, _shapes(inner), exported):
                    run({"latent": latent})
            else:
                for index in range(len(self.prompts)):
                    run(drawn_inputs(graph, np.random.default_rng([self.seed, index])))

        return Workload(len(self.prompts) * each, drive)

    def _real(self, component: str) -> bool:
        return self.kind(component) == "trajectories"

    def _has(self, components: Collection[str]) -> bool:
        return set(components) <= set(self.source.components)

    def _trajectories(self, predict: Network, shapes: Shapes, exported: Exported) -> list[Array]:
        contexts = self._contexts(shapes["encoder_hidden_states"], exported)
        denoising = Denoising.of(self.source, self.steps)
        return [
            denoising.latent(predict, shapes, context, self.seed + index)
            for index, context in enumerate(contexts)
        ]

    def _contexts(self, shape: tuple[int, ...], exported: Exported) -> list[Array]:
        """The encoded prompts, each [1, tokens, width]."""
        if not self._real("unet"):
            rng = np.random.default_rng([self.seed, 77])
            return [rng.standard_normal(shape).astype(np.float32) for _ in self.prompts]
        encode = _runner(exported("text_encoder"))
        ids = token_ids(self.source, self.prompts, shape[1])
        return [np.asarray(encode({"input_ids": row})["hidden_states"]) for row in ids]


_Ports = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


def _ports(path: Path) -> _Ports:
    """Type and shape of a graph's inputs."""
    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    ports = declared_ports(graph.input)
    return {port.name: (port.dtype, port.shape) for port in ports if port.name not in constants}


def _shapes(ports: _Ports) -> Shapes:
    return {name: shape for name, (_, shape) in ports.items()}


def _as_unet(run: Network, ports: _Ports) -> Network:
    """``run``, a U-Net of any exporter, as trajectories call it: its inputs in the types and shapes
    that it declares (a timestep of any type, for each of a batch), its one result by our name."""

    def predict(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        (noise,) = run(
            {
                name: np.broadcast_to(feeds[name], shape).astype(dtype)
                if name != "timestep"
                else np.full(shape, feeds[name].reshape(()), dtype)
                for name, (dtype, shape) in ports.items()
            }
        ).values()
        return {"noise_pred": noise}

    return predict


def _runner(path: Path) -> Network:
    """An exported FP32 component as a callable; its session lives as long as the callable."""
    return float_network(path, None, f"the export of {path.stem}")
