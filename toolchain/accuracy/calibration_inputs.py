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

from edgefusion.models.families.family import (
    GUIDANCE_SCALE,
    IMAGE,
    LATENT,
    NOISE,
    RESIDUAL,
    TIMESTEP,
    Shapes,
)
from edgefusion.models.families.pictures import PICTURE
from edgefusion.models.guidance import as_zeros
from edgefusion.models.picture_start import Start
from edgefusion.models.pictures import chosen_pictures, drawn_conditions, picture_size
from edgefusion.models.text_to_image import Network, chained
from edgefusion.models.trajectories import Denoising, token_ids
from edgefusion.runtime.pipeline_roles import role_of, runs_each_step
from edgefusion.toolchain.accuracy.calibration import Workload
from edgefusion.toolchain.accuracy.drawn_inputs import drawn_inputs
from edgefusion.toolchain.running.float_network import float_network
from edgefusion.toolchain.running.ports import declared_ports

if TYPE_CHECKING:
    from edgefusion.models.source import Source

Array = npt.NDArray[Any]
Exported = Callable[[str], Path]
"""The FP32 export of a component by name, for what comes before the calibrated one."""

_Ports = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
_PICTURES = 78
"""Keeps what pictures are drawn by apart from what is drawn by the same seed elsewhere."""
InputKind = Literal["trajectories", "synthetic"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Prompts, steps and seed; how many trajectories there are follows from the prompts. Sets of
    ``pictures``, as networks are given them, are the prompts' in turn; drawn where there are
    none."""

    source: Source
    prompts: tuple[str, ...]
    steps: int
    seed: int = 0
    pictures: tuple[Mapping[str, Array], ...] = ()

    def kind(self, component: str) -> InputKind:
        """Whether ``component`` gets real inputs."""
        family = self.source.family
        real = component in family.components and self.source.kind != "onnx"
        return "trajectories" if real and self._has(family.before(component)) else "synthetic"

    def timesteps(self, component: str) -> tuple[float, ...]:
        """The deployed timesteps, for components that see them."""
        decodes = role_of(component) == "decoder" and self._real(component)
        if runs_each_step(component) or decodes:
            return Denoising.of(self.source, self.steps).timesteps()
        return ()

    def workload(self, component: str, graph_path: Path, exported: Exported) -> Workload:
        """How to drive the graph at ``graph_path``; ``exported`` makes what it depends on."""
        role, family = role_of(component), self.source.family
        deployment = self.source.deployment
        texts = (*self.prompts, "") if deployment.reads_negative else self.prompts
        each_step = [part.component for part in family.each_step if self._has([part.component])]

        def drive(run: Network) -> None:
            graph = onnx.load(graph_path, load_external_data=False)
            ports = _ports(graph_path)
            if component in each_step:
                others = {name: exported(name) for name in each_step if name != component}
                networks = {name: (_runner(path), _ports(path)) for name, path in others.items()}
                networks[component] = (run, ports)
                self._trajectories([networks[name] for name in each_step], exported)
            elif role == "encoder" and self._real(component):
                length = ports["input_ids"][1][1]
                for ids in token_ids(self.source, component, texts, length):
                    run({"input_ids": ids})
            elif role == "image_encoder" and self._real(component):
                for index in range(len(self.prompts)):
                    run({IMAGE: self._pictures(index, _shapes(ports))[PICTURE]})
            elif role == "decoder" and self._real(component):
                paths = [exported(name) for name in each_step]
                networks_of_step = [(_runner(path), _ports(path)) for path in paths]
                for latent in self._trajectories(networks_of_step, exported):
                    run({LATENT: latent})
            else:
                for index in range(len(self.prompts)):
                    run(drawn_inputs(graph, np.random.default_rng([self.seed, index])))

        each = 1
        if component in each_step:
            each = deployment.passes * len(self.timesteps(component))
        count = len(texts) if role == "encoder" and self._real(component) else len(self.prompts)
        return Workload(count * each, drive)

    def _real(self, component: str) -> bool:
        return self.kind(component) == "trajectories"

    def _has(self, components: Collection[str]) -> bool:
        return set(components) <= set(self.source.components)

    def _trajectories(
        self, each_step: Sequence[tuple[Network, _Ports]], exported: Exported
    ) -> list[Array]:
        """What the trajectories of all prompts end in; ``each_step`` has the denoiser last."""
        denoising = Denoising.of(self.source, self.steps)
        rng, family = np.random.default_rng([self.seed, 77]), self.source.family
        deployment, guidance = self.source.deployment, denoising.guidance
        scale = GUIDANCE_SCALE if guidance is None else guidance.scale
        texts = (*self.prompts, "") if deployment.reads_negative else self.prompts
        shapes = {name: shape for _, ports in each_step for name, shape in _shapes(ports).items()}
        *before, (run, ports) = each_step
        predict = chained([*(_taking(*each) for each in before), _as_denoiser(run, ports)])
        encoded = self._encoded(exported, texts)
        latents = []
        for index in range(len(self.prompts)):
            seed = self.seed + index
            begin = self._begin(denoising, index, shapes, exported)
            known = self._drawn(index, shapes) if begin is None else begin.conditions
            rest = {name: shape for name, shape in shapes.items() if name not in known}
            conditions = {**known, **family.drawn_conditions(encoded[index], rest, rng, scale)}
            unconditional = None
            if deployment.passes == 2:
                without = encoded[-1] if deployment.reads_negative else as_zeros(encoded[index])
                made = family.drawn_conditions(without, rest, rng, scale)
                unconditional = {**known, **made}
            latents.append(
                denoising.latent(predict, shapes, conditions, seed, unconditional, begin)
            )
        return latents

    def _begin(
        self, denoising: Denoising, index: int, shapes: Shapes, exported: Exported
    ) -> Start | None:
        """Where the trajectory of a prompt begins; None for noise, and without the image encoder
        that reads pictures."""
        family = self.source.family
        if not family.pictures.given or not self._real(family.denoiser.component):
            return None
        known = dict(shapes)
        encode: Network = _no_encoder
        if family.image_encoder is not None:
            path = exported(family.image_encoder.component)
            encode = _runner(path)
            known |= _shapes(_ports(path))
        pictures = self._pictures(index, known)
        return denoising.begin(pictures, shapes, encode, self.seed + index)

    def _drawn(self, index: int, shapes: Shapes) -> dict[str, Array]:
        """What follows from pictures where no image encoder reads them."""
        rng = np.random.default_rng([self.seed, _PICTURES, index])
        use, scale = self.source.family.pictures, self.source.deployment.control_scale
        given = self.pictures[index % len(self.pictures)] if self.pictures else None
        return drawn_conditions(use, shapes, rng, scale, pictures=given)

    def _pictures(self, index: int, shapes: Shapes) -> Mapping[str, Array]:
        """Of networks with inputs of these ``shapes``, for a prompt."""
        size = picture_size(shapes)
        assert size is not None
        rng = np.random.default_rng([self.seed, _PICTURES, index])
        return chosen_pictures(self.source.family.pictures, self.pictures, index, size, rng)

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


def _no_encoder(_inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    raise AssertionError("no picture is encoded without an image encoder")


def _ports(path: Path) -> _Ports:
    """Type and shape of a graph's inputs."""
    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    ports = declared_ports(graph.input)
    return {port.name: (port.dtype, port.shape) for port in ports if port.name not in constants}


def _shapes(ports: _Ports) -> Shapes:
    return {name: shape for name, (_, shape) in ports.items()}


def _taking(run: Network, ports: _Ports) -> Network:
    """``run``, given no more than it declares of all that there is."""
    return lambda inputs: run({name: inputs[name] for name in ports})


def _as_denoiser(run: Network, ports: _Ports) -> Network:
    """``run``, a denoiser of any exporter, as trajectories call it: its inputs in the types and
    shapes that it declares (a timestep of any type, for each of a batch), its one result by our
    name. A control that is not there adds nothing."""
    nothing = {name: np.zeros(()) for name in ports if name.startswith(RESIDUAL)}

    def predict(given: Mapping[str, Array]) -> Mapping[str, Array]:
        feeds = nothing | dict(given)
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
