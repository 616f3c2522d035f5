"""The NPU's side of a verification: a component's network, its layers measured where wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.models.families.family import TIMESTEP
from edgefusion.models.noise_scheduler import plain_timestep
from edgefusion.models.text_to_image import Network
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.float_reference import ReferenceGraph
from edgefusion.toolchain.accuracy.layer_accuracy import LayerError, LayerProbe
from edgefusion.toolchain.accuracy.sensitivity import Contribution, output_noise
from edgefusion.toolchain.running.execution import npu_executor, npu_network
from edgefusion.toolchain.running.ports import declared_outputs

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

Array = npt.NDArray[Any]
LayerKey = tuple[str, str, float | None]
"""Component, op and timestep (None where there is none)."""

_MOST_DISTURBED = 250
"""Ops whose contribution is measured, noisiest first; each takes an evaluation in FP32."""


@dataclass(slots=True)
class NpuLayers:
    """Makes networks on the NPU, and collects the errors of the layers of ``wanted`` components,
    with what each contributes to the output where ``contributing``."""

    bundle: Bundle
    wanted: Sequence[str]
    reference: Callable[[str], ReferenceGraph]
    """A component's graph in FP32 that has the bundle's names."""
    host: str
    contributing: bool
    say: Say
    layers: dict[LayerKey, LayerError] = field(default_factory=dict)
    contributions: dict[LayerKey, Contribution] = field(default_factory=dict)

    def plain(self, component: str) -> Network:
        """The network on the NPU, its layers not measured."""
        return npu_network(self.bundle, component, say=self.say, host=self.host)

    def network(self, component: str, exact: Sequence[Mapping[str, Array]]) -> Network:
        """The network on the NPU; ``exact`` are the inputs of its evaluations in the reference,
        for the errors of its layers."""
        if component not in self.wanted:
            return self.plain(component)
        program, executor = npu_executor(self.bundle, component, say=self.say, host=self.host)
        graph, weights = self.bundle.graph_model(component), self.bundle.weights(component)
        reference = self.reference(component)
        network, machine = self.bundle.network(component), self.bundle.machine
        probe = LayerProbe(program, executor, network, machine, graph, weights, reference)
        left = list(exact)

        def run(found: Mapping[str, Array]) -> Mapping[str, Array]:
            expected = left.pop(0)
            timestep = timestep_of(expected)
            at = f" at timestep {timestep}" if timestep is not None else ""
            self.say(f"{component}: measuring every layer{at}")
            errors, outputs = probe.measure(expected, found)
            for op, error in errors.items():
                key = (component, op, timestep)
                self.layers[key] = self.layers.get(key, LayerError()) + error
            if self.contributing:
                self._contribute(component, timestep, errors, expected, reference)
            return declared_outputs(graph.graph, found, outputs)

        return run

    def _contribute(
        self,
        component: str,
        timestep: float | None,
        errors: Mapping[str, LayerError],
        inputs: Mapping[str, Array],
        reference: ReferenceGraph,
    ) -> None:
        """Measure what the noisiest ops do to the output."""
        graph = self.bundle.graph_model(component).graph
        ports = {info.name for info in graph.input}
        nodes = {node.name: node for node in graph.node if node.name in errors}
        powers = {
            op: errors[op].own_noise(reads_input=not ports.isdisjoint(node.input))
            for op, node in nodes.items()
        }
        noisiest = sorted(
            (op for op in powers if powers[op] > 0),
            key=lambda op: powers[op] / max(errors[op].isolated.signal, 1e-30),
            reverse=True,
        )[:_MOST_DISTURBED]
        deviations = {
            nodes[op].output[0]: (powers[op] / errors[op].isolated.count) ** 0.5 for op in noisiest
        }

        def report(done: int, count: int) -> None:
            self.say(f"{component}: disturbing op {done + 1} of {count} at timestep {timestep}")

        found = output_noise(reference, deviations, inputs, report)
        for op in noisiest:
            key, share = (component, op, timestep), found.get(nodes[op].output[0], 0.0)
            made = Contribution.of(share, powers[op], errors[op].isolated.signal)
            if share >= self.contributions.get(key, Contribution()).as_is:
                self.contributions[key] = made


def timestep_of(inputs: Mapping[str, Array]) -> float | None:
    """The timestep among a network's inputs."""
    return plain_timestep(np.asarray(inputs[TIMESTEP]).flat[0]) if TIMESTEP in inputs else None
