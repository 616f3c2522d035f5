"""Verifies a bundle: its values on the simulated NPU against ONNX Runtime in FP32.

There are two references. ``source`` has the weights that the checkpoint has: all that the NPU's
numbers cost. ``bundle`` has the weights as the bundle rounds them: what is left to calibration and
arithmetic, which is what the gates are about unless asked otherwise, because rounding weights to
eight bits sets a limit of its own (about 45 dB an op for normal weights) that no calibration moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.models.text_to_image import Generation, Network, generate
from edgefusion.runtime.accuracy import psnr_db, sqnr_db
from edgefusion.runtime.partials import partial_folder
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.float_reference import (
    SOURCE_WEIGHTS,
    ReferenceGraph,
    reference_graph,
    source_of,
)
from edgefusion.toolchain.accuracy.layer_accuracy import LayerError, LayerProbe
from edgefusion.toolchain.accuracy.sensitivity import Contribution, output_noise
from edgefusion.toolchain.running.execution import (
    PIPELINE,
    BundleNetworks,
    npu_executor,
    npu_network,
    pipeline_of,
    reference_network,
    tokenizer_of,
)
from edgefusion.toolchain.running.ports import declared_outputs
from edgefusion.toolchain.running.segments import session

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

Array = npt.NDArray[Any]
LayerKey = tuple[str, str, int | None]
"""Component, op and timestep (None where there is none)."""


PROMPTS = (
    "a lighthouse on a cliff at dusk, long exposure",
    "a cat asleep on a stack of old books, soft window light",
    "watercolour of a market square with umbrellas",
    "a steel bridge in fog seen from below, black and white",
    "close-up of a strawberry cake with candles",
    "an astronaut riding a bicycle through a wheat field",
    "a knitted toy elephant on a white table",
    "aerial view of a river delta, autumn colours",
)
"""None of them is among those that calibration uses by default: what is verified is new to it."""

SEED = 1000
"""Of the noise; calibration counts from 0."""

_MOST_DISTURBED = 250
"""Ops whose contribution is measured, noisiest first; each takes an evaluation in FP32."""


@dataclass(frozen=True, slots=True)
class ValueAccuracy:
    """One value of the pipeline. Decibels against the reference with the source's weights (None
    without a source) and against the one with the bundle's; an image's are PSNR, others SQNR.
    ``weights_db`` compares the two references: what rounding the weights alone costs."""

    prompt: str
    component: str
    value: str
    timestep: int | None
    source_db: float | None
    bundle_db: float
    weights_db: float | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What was measured; ``layers`` compare with the source's weights if there are any."""

    bundle: Path
    source: str
    values: tuple[ValueAccuracy, ...]
    layers: Mapping[LayerKey, LayerError]
    has_source: bool
    contributions: Mapping[LayerKey, Contribution] = field(default_factory=dict)
    """What each op's own error alone does to the output, on the worst prompt; measured only where
    it was asked for."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to verify with: prompts, a seed, the components whose layers are wanted, the source
    where the bundle's manifest cannot name it, what runs host functions, and whether each op's
    contribution to the output is wanted."""

    prompts: tuple[str, ...]
    seed: int = SEED
    steps: int = 2
    layers: tuple[str, ...] = ("unet",)
    source: str | None = None
    host: str = "tvm"
    contributions: bool = False


@dataclass(slots=True)
class _Bench:
    """The references of one verification, and the layers' errors so far."""

    bundle: Bundle
    request: Request
    references: Mapping[str, ReferenceGraph]
    say: Say
    layers: dict[LayerKey, LayerError] = field(default_factory=dict)
    contributions: dict[LayerKey, Contribution] = field(default_factory=dict)

    def from_source(self, component: str) -> Network:
        """The FP32 network with the source's weights."""
        graph = self.references[component]
        runner = session(graph.model, graph.folder)
        names = [info.name for info in runner.get_outputs()]
        return lambda feeds: dict(
            zip(names, map(np.asarray, runner.run(names, dict(feeds))), strict=True)
        )

    def npu(self, component: str, exact: Sequence[Mapping[str, Array]]) -> Network:
        """The network on the NPU; ``exact`` are the inputs of its evaluations in the reference,
        for the errors of its layers."""
        if component not in self.request.layers:
            return npu_network(self.bundle, component, say=self.say, host=self.request.host)
        program, executor = npu_executor(
            self.bundle, component, say=self.say, host=self.request.host
        )
        graph, weights = self.bundle.graph_model(component), self.bundle.weights(component)
        probe = LayerProbe(program, executor, graph, weights, self.references[component])
        left = list(exact)

        def run(found: Mapping[str, Array]) -> Mapping[str, Array]:
            expected = left.pop(0)
            timestep = int(expected["timestep"][0]) if "timestep" in expected else None
            at = f" at timestep {timestep}" if timestep is not None else ""
            self.say(f"{component}: measuring every layer{at}")
            errors, outputs = probe.measure(expected, found)
            for op, error in errors.items():
                key = (component, op, timestep)
                self.layers[key] = self.layers.get(key, LayerError()) + error
            if self.request.contributions:
                self._contribute(component, timestep, errors, expected)
            return declared_outputs(graph.graph, found, outputs)

        return run

    def _contribute(
        self,
        component: str,
        timestep: int | None,
        errors: Mapping[str, LayerError],
        inputs: Mapping[str, Array],
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

        found = output_noise(self.references[component], deviations, inputs, report)
        for op in noisiest:
            key, share = (component, op, timestep), found.get(nodes[op].output[0], 0.0)
            made = Contribution.of(share, powers[op], errors[op].isolated.signal)
            if share >= self.contributions.get(key, Contribution()).as_is:
                self.contributions[key] = made


def verify_bundle(bundle: Bundle, request: Request, say: Say) -> Verification:
    """Run the bundle and its references on the request's prompts, and compare.

    A bundle that is no whole pipeline gets normal random inputs, one set a prompt. Raises
    InputError for a bundle without calibration or a source that is not the bundle's.
    """
    source = source_of(bundle, request.source, say)
    if source is None:
        say("no source to compare with: the reference has the bundle's rounded weights")
    with partial_folder() as folder:
        references = {
            name: reference_graph(bundle, name, source, folder, say) for name in bundle.components
        }
        bench = _Bench(bundle, request, references, say)
        has_source = all(r.weights == SOURCE_WEIGHTS for r in references.values())
        whole = all(name in bundle.components for name in PIPELINE)
        measure = _pipeline if whole else _alone
        values = measure(bench, has_source)
    name = bundle.manifest.source.name
    return Verification(
        bundle.path, name, tuple(values), bench.layers, has_source, bench.contributions
    )


def _pipeline(bench: _Bench, has_source: bool) -> list[ValueAccuracy]:
    bundle, request, say = bench.bundle, bench.request, bench.say
    config, sampling = pipeline_of(bundle)
    tokenizer = tokenizer_of(bundle, config, say)
    found: list[ValueAccuracy] = []
    for number, prompt in enumerate(request.prompts):
        ids = tokenizer(prompt).ids

        def made(make: Callable[[str], Network], who: str, ids: Array = ids) -> Generation:
            say(f"prompt {number + 1} of {len(request.prompts)}: {who}")  # noqa: B023
            seed = request.seed + number  # noqa: B023
            networks = BundleNetworks(make)
            return generate(networks, sampling, ids, seed=seed, steps=request.steps, say=say)

        rounded = made(lambda c: reference_network(bundle, c), "reference, the bundle's weights")
        exact = made(bench.from_source, "reference, the source's weights") if has_source else None
        base = exact or rounded
        latent = (base.steps[-1].latent / sampling.scaling_factor).astype(np.float32)
        inputs: dict[str, list[Mapping[str, Array]]] = {
            "text_encoder": [{"input_ids": ids}],
            "unet": [step.inputs for step in base.steps],
            "vae_decoder": [{"latent": latent}],
        }
        npu = made(lambda c, given=inputs: bench.npu(c, given[c]), "NPU")  # type: ignore[misc]
        found += _compared(prompt, npu, rounded, exact)
    return found


def _compared(
    prompt: str, npu: Generation, rounded: Generation, exact: Generation | None
) -> list[ValueAccuracy]:
    def row(
        component: str, value: str, timestep: int | None, pick: Callable[[Generation], Array]
    ) -> ValueAccuracy:
        measure = psnr_db if value == "image" else sqnr_db
        from_source = None if exact is None else measure(pick(exact), pick(npu))
        from_bundle = measure(pick(rounded), pick(npu))
        weights = None if exact is None else measure(pick(exact), pick(rounded))
        return ValueAccuracy(prompt, component, value, timestep, from_source, from_bundle, weights)

    rows = [row("text_encoder", "context", None, lambda g: g.context)]
    for k, step in enumerate(npu.steps):
        rows.append(row("unet", "noise", step.timestep, lambda g, k=k: g.steps[k].noise))  # type: ignore[misc]
        rows.append(row("unet", "latent", step.timestep, lambda g, k=k: g.steps[k].latent))  # type: ignore[misc]
    rows.append(row("vae_decoder", "image", None, lambda g: g.image))
    return rows


def _alone(bench: _Bench, has_source: bool) -> list[ValueAccuracy]:
    """Each component by itself, on normal inputs (zeros where they are whole numbers)."""
    import onnx

    found = []
    for name in bench.bundle.components:
        ports = bench.bundle.graph_model(name).graph.input
        rng = np.random.default_rng(bench.request.seed)
        sets: list[dict[str, Array]] = []
        for _ in bench.request.prompts:
            feeds: dict[str, Array] = {}
            for port in ports:
                kind = port.type.tensor_type
                dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
                values = rng.standard_normal([d.dim_value for d in kind.shape.dim])
                feeds[port.name] = (values if dtype.kind == "f" else 0 * values).astype(dtype)
            sets.append(feeds)
        rounded = reference_network(bench.bundle, name)
        exact = bench.from_source(name) if has_source else None
        npu = bench.npu(name, sets)
        for number, feeds in enumerate(sets):
            results, reference = npu(feeds), rounded(feeds)
            original = exact(feeds) if exact is not None else None
            for output, value in results.items():
                from_source = None if original is None else sqnr_db(original[output], value)
                from_bundle = sqnr_db(reference[output], value)
                label = f"random inputs {number + 1}"
                weights = None if original is None else sqnr_db(original[output], reference[output])
                found.append(
                    ValueAccuracy(label, name, output, None, from_source, from_bundle, weights)
                )
    return found
