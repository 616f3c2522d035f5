"""What to calibrate a component with: trajectories of its pipeline where there is one.

A component beside a text encoder and a U-Net gets real inputs: the text encoder prompts, the U-Net
every step of their trajectories, the decoder the latents that these end in. What stands alone gets
the nearest thing: a U-Net trajectories with a normal context (that is what CLIP's final norm
leaves), any other graph what is drawn for it (``drawn_inputs``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.models.families.family import GUIDANCE_SCALE, LATENT, NOISE, TIMESTEP, Shapes
from edgefusion.models.guidance import as_zeros
from edgefusion.models.text_to_image import Network
from edgefusion.models.trajectories import Denoising, evaluations, token_ids
from edgefusion.runtime.pipeline_roles import role_of
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


@dataclass(frozen=True, slots=True)
class Inputs:
    """Prompts, steps and seed; how many trajectories there are follows from the prompts."""

    source: Source
    prompts: tuple[str, ...]
    steps: int
    seed: int = 0

    def kind(self, component: str) -> InputKind:
        """Whether ``component`` gets real inputs."""
        family = self.source.family
        real = component in family.components and self.source.kind != "onnx"
        return "trajectories" if real and self._has(family.before(component)) else "synthetic"

    def timesteps(self, component: str) -> tuple[float, ...]:
        """The deployed timesteps, for components that see them."""
        role = role_of(component)
        if role == "denoiser" or (role == "decoder" and self._real(component)):
            return Denoising.of(self.source, self.steps).timesteps()
        return ()

    def workload(self, component: str, graph_path: Path, exported: Exported) -> Workload:
        """How to drive the graph at ``graph_path``; ``exported`` makes what it depends on."""
        role = role_of(component)
        each = evaluations(self.source, component, self.steps) if role == "denoiser" else 1
        deployment = self.source.deployment
        texts = (*self.prompts, "") if deployment.reads_negative else self.prompts

        def drive(run: Network) -> None:
            graph = onnx.load(graph_path, load_external_data=False)
            ports = _ports(graph_path)
            if role == "denoiser":
                self._trajectories(_as_denoiser(run, ports), _shapes(ports), exported)
            elif role == "encoder" and self._real(component):
                length = ports["input_ids"][1][1]
                for ids in token_ids(self.source, component, texts, length):
                    run({"input_ids": ids})
            elif role == "decoder" and self._real(component):
                denoiser = exported(self.source.family.denoiser.component)
                inner = _ports(denoiser)
                predict = _as_denoiser(_runner(denoiser), inner)
                for latent in self._trajectories(predict, _shapes(inner), exported):
                    run({LATENT: latent})
            else:
                for index in range(len(self.prompts)):
                    run(drawn_inputs(graph, np.random.default_rng([self.seed, index])))

        count = len(texts) if role == "encoder" and self._real(component) else len(self.prompts)
        return Workload(count * each, drive)

    def _real(self, component: str) -> bool:
        return self.kind(component) == "trajectories"

    def _has(self, components: Collection[str]) -> bool:
        return set(components) <= set(self.source.components)

    def _trajectories(self, predict: Network, shapes: Shapes, exported: Exported) -> list[Array]:
        denoising = Denoising.of(self.source, self.steps)
        rng, family = np.random.default_rng([self.seed, 77]), self.source.family
        deployment, guidance = self.source.deployment, denoising.guidance
        scale = GUIDANCE_SCALE if guidance is None else guidance.scale
        texts = (*self.prompts, "") if deployment.reads_negative else self.prompts
        encoded = self._encoded(exported, texts)
        latents = []
        for index in range(len(self.prompts)):
            conditions = family.drawn_conditions(encoded[index], shapes, rng, scale)
            unconditional = None
            if deployment.passes == 2:
                without = encoded[-1] if deployment.reads_negative else as_zeros(encoded[index])
                unconditional = family.drawn_conditions(without, shapes, rng, scale)
            seed = self.seed + index
            latents.append(denoising.latent(predict, shapes, conditions, seed, unconditional))
        return latents

    def _encoded(
        self, exported: Exported, texts: Sequence[str]
    ) -> list[Mapping[str, Mapping[str, Array]]]:
        """What the text encoders make of each text, by component; one is loaded at a time."""
        family = self.source.family
        made: list[dict[str, Mapping[str, Array]]] = [{} for _ in texts]
        if not self._real(family.denoiser.component):
            return [*made]
        for component in (part.component for part in family.encoders):
            path = exported(component)
            encode, length = _runner(path), _ports(path)["input_ids"][1][1]
            ids = token_ids(self.source, component, texts, length)
            for row, encoded in zip(ids, made, strict=True):
                encoded[component] = encode({"input_ids": row})
        return [*made]


_Ports = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


def _ports(path: Path) -> _Ports:
    """Type and shape of a graph's inputs."""
    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    ports = declared_ports(graph.input)
    return {port.name: (port.dtype, port.shape) for port in ports if port.name not in constants}


def _shapes(ports: _Ports) -> Shapes:
    return {name: shape for name, (_, shape) in ports.items()}


def _as_denoiser(run: Network, ports: _Ports) -> Network:
    """``run``, a denoiser of any exporter, as trajectories call it: its inputs in the types and
    shapes that it declares (a timestep of any type, for each of a batch), its one result by our
    name."""

    def predict(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        (noise,) = run(
            {
                name: np.broadcast_to(feeds[name], shape).astype(dtype)
                if name != TIMESTEP
                else np.full(shape, feeds[name].reshape(()), dtype)
                for name, (dtype, shape) in ports.items()
            }
        ).values()
        return {NOISE: noise}

    return predict


def _runner(path: Path) -> Network:
    """An exported FP32 component as a callable; its session lives as long as the callable."""
    return float_network(path, None, f"the export of {path.stem}")
