"""Verifies a bundle: its values on the simulated NPU against those of its source.

Two questions, each with a gate (``report``). Is the **arithmetic** right: the NPU against the
bundle's own graph with its rounded weights, in ONNX Runtime? That leaves calibration and integers
to answer for. Is it the **model**: the NPU against the source's own graph (``source_network``),
which no pass has touched, so that neither rounding nor a mistake in understanding it is hidden?

The source is found by its name or given; a bundle without keeps what its source once made of one
set of inputs (``compiler.bundle.reference``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.bundle.reference import reference_vectors
from edgefusion.models.families.family import HIDDEN, Family
from edgefusion.models.guidance import negative_ids
from edgefusion.models.pictures import Files, chosen_pictures, read_sets
from edgefusion.models.text_to_image import Generation, Network, generate
from edgefusion.models.tokenization import ids_of
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.partials import partial_folder
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.agreement import Agreement, agreement
from edgefusion.toolchain.accuracy.drawn_inputs import fitted_inputs
from edgefusion.toolchain.accuracy.float_reference import (
    SOURCE_WEIGHTS,
    source_of,
)
from edgefusion.toolchain.accuracy.held_out import SEED, InputSet, held_out_sets
from edgefusion.toolchain.accuracy.layer_accuracy import LayerError
from edgefusion.toolchain.accuracy.npu_layers import LayerKey, NpuLayers, timestep_of
from edgefusion.toolchain.accuracy.references import Export, References
from edgefusion.toolchain.accuracy.sensitivity import Contribution
from edgefusion.toolchain.accuracy.source_network import draws_numbers
from edgefusion.toolchain.profiling.pipeline import family_of
from edgefusion.toolchain.running.drawing import pixels_of
from edgefusion.toolchain.running.execution import pipeline_of, prompt_reader

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

Array = npt.NDArray[Any]
ModelReference = Literal["source", "recorded", "none"]
"""What the model was compared with: the source, what the bundle kept of it, or nothing."""

Kind = Literal["output", "inner", "picture"]


@dataclass(frozen=True, slots=True)
class ValueAccuracy:
    """One value on the NPU: against the ``source``, and against the ``bundle``'s own graph, each
    None where there is nothing to compare with. ``weights`` compares these two: what rounding the
    weights costs, and whatever was misunderstood."""

    prompt: str
    component: str
    value: str
    timestep: float | None
    source: Agreement | None
    bundle: Agreement | None
    weights: Agreement | None = None
    kind: Kind = "output"
    """``inner`` values, on the way to others, have no gate; pictures are measured by PSNR."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was measured. ``model_references`` says for each component what its model was compared
    with; ``layers`` compare with the source's weights where ``layer_weights`` says so."""

    bundle: Path
    source: str
    values: tuple[ValueAccuracy, ...]
    layers: Mapping[LayerKey, LayerError]
    model_references: Mapping[str, ModelReference]
    layer_weights: str = SOURCE_WEIGHTS
    contributions: Mapping[LayerKey, Contribution] = field(default_factory=dict)
    """What each op's own error alone does to the output, on the worst prompt; measured only where
    it was asked for."""

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The components whose model was compared with nothing."""
        return tuple(name for name, by in self.model_references.items() if by == "none")

    def __repr__(self) -> str:
        return (
            f"<Verification of {self.bundle.name}: {len(self.values)} values, "
            f"{len(self.layers)} layers>"
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What to verify with: prompts, a seed, the components whose layers are wanted, the source
    where the bundle's manifest cannot name it, what runs host functions, and whether each op's
    contribution to the output is wanted."""

    prompts: tuple[str, ...]
    seed: int = SEED
    layers: tuple[str, ...] = ("unet",)
    source: str | None = None
    host: str = "tvm"
    loras: tuple[str, ...] = ()
    """The LoRA files that were fused into it, FILE or FILE:SCALE each."""
    contributions: bool = False
    pictures: tuple[Files, ...] = ()
    """Files by name, the prompts' in turn; drawn where there are none."""
    export: Export | None = None
    """What makes the source's exports, where they may be at hand already."""


def verify_bundle(bundle: Bundle, request: Request, say: Say) -> Verification:
    """Run the bundle and its references on the request's prompts, and compare.

    Components of a bundle that is no whole pipeline run by themselves (``held_out``). Raises
    InputError for a bundle without calibration or a source that is not the bundle's.
    """
    family = family_of(bundle)
    whole = all(name in bundle.components for name in family.components)
    if request.pictures and not whole:
        raise UsageError(
            f"pictures were given, and {bundle.path.name} is no whole pipeline; expected all of "
            f"{', '.join(family.components)}. Leave them out."
        )
    sets = _read_pictures(bundle, request)
    source = source_of(bundle, request.source, say, request.loras)
    with partial_folder() as folder:
        references = References(bundle, source, folder, say, request.export)
        layer_graph = cache(references.layers)
        npu = NpuLayers(
            bundle, request.layers, layer_graph, request.host, request.contributions, say
        )
        values = list(_pipeline(references, request, npu, sets) if whole else ())
        for name in bundle.components:
            values += _alone(
                references, request, name, npu, recorded_only=whole and name in family.components
            )
        compared = {
            name: _model_reference(name, values, by_source=source is not None)
            for name in bundle.components
        }
        weights = {layer_graph(name).weights for name in {key[0] for key in npu.layers}}
    return Verification(
        bundle.path,
        bundle.manifest.source.name,
        tuple(values),
        npu.layers,
        compared,
        weights.pop() if len(weights) == 1 else SOURCE_WEIGHTS,
        npu.contributions,
    )


def _model_reference(
    component: str, values: Iterable[ValueAccuracy], *, by_source: bool
) -> ModelReference:
    compared = (row.source for row in values if row.component == component)
    if not any(source is not None and source.comparable for source in compared):
        return "none"
    return "source" if by_source else "recorded"


def _read_pictures(bundle: Bundle, request: Request) -> tuple[Mapping[str, Array], ...]:
    """Those of the request, as networks are given them."""
    use = family_of(bundle).pictures
    size = pixels_of(bundle) if use.given else (0, 0)
    return read_sets(use, request.pictures, size, bundle.path.name, len(request.prompts))


def _pipeline(
    references: References,
    request: Request,
    layers: NpuLayers,
    sets: Sequence[Mapping[str, Array]],
) -> Iterable[ValueAccuracy]:
    """Images from the request's prompts, and its ``sets`` of pictures in turn."""
    bundle, say = references.bundle, references.say
    config, sampling = pipeline_of(bundle)
    read, family = prompt_reader(bundle, config, say), sampling.family
    use = family.pictures
    models = references.source is not None
    size = pixels_of(bundle) if use.given else (0, 0)
    for number, prompt in enumerate(request.prompts):
        ids = ids_of(read(prompt))
        negative = negative_ids(sampling, read, None)
        rng = np.random.default_rng([request.seed, number])
        pictures = chosen_pictures(use, sets, number, size, rng) if use.given else {}

        def made(
            make: Callable[[str], Network],
            who: str,
            ids: Mapping[str, Array] = ids,
            negative: Mapping[str, Array] | None = negative,
            pictures: Mapping[str, Array] = pictures,
        ) -> Generation:
            say(f"prompt {number + 1} of {len(request.prompts)}: {who}")  # noqa: B023
            seed = request.seed + number  # noqa: B023
            return generate(
                make,
                sampling,
                ids,
                negative=negative,
                pictures=pictures,
                seed=seed,
                steps=bundle.manifest.steps,
                keeps_control=True,
                say=say,
            )

        def model(component: str) -> Network:
            found = references.model(component)
            if found is None:
                raise InputError(f"the source of {component} cannot be run")
            return found

        inputs: Inputs = {}
        rounded = made(_recording(references.rounded, inputs), "reference, the bundle's weights")
        exact = None
        if models:
            try:
                given: Inputs = {}
                exact = made(_recording(model, given), "reference, the source")
                inputs = given
            except InputError as error:
                say(f"warning: {error}; the model is not checked")
                models = False
        npu = made(lambda c, given=inputs: layers.network(c, given[c]), "NPU")  # type: ignore[misc]
        yield from _compared(prompt, family, npu, rounded, exact)


Inputs = dict[str, list[Mapping[str, Array]]]
"""Of all evaluations of networks, by component."""


def _recording(make: Callable[[str], Network], seen: Inputs) -> Callable[[str], Network]:
    """What ``make`` makes, each adding its inputs to those ``seen``."""

    def recorded(component: str) -> Network:
        network, inputs = make(component), seen.setdefault(component, [])

        def run(given: Mapping[str, Array]) -> Mapping[str, Array]:
            inputs.append(given)
            return network(given)

        return run

    return recorded


def _compared(
    prompt: str, family: Family, npu: Generation, rounded: Generation, exact: Generation | None
) -> list[ValueAccuracy]:
    inner = ("context", "text_embeds", "noise")
    kinds: dict[str, Kind] = {**dict.fromkeys(inner, "inner"), "image": "picture"}

    def row(
        component: str,
        value: str,
        timestep: float | None,
        pick: Callable[[Generation], Array],
        *,
        inner: bool = False,
    ) -> ValueAccuracy:
        def measure(reference: Generation | None, found: Generation) -> Agreement | None:
            if reference is None:
                return None
            return agreement(pick(reference), pick(found), picture=value == "image")

        parts = measure(exact, npu), measure(rounded, npu), measure(exact, rounded)
        kind = "inner" if inner else kinds.get(value, "output")
        return ValueAccuracy(prompt, component, value, timestep, *parts, kind)

    rows = []
    for encoder, made in npu.encoded.items():
        for output in made:
            value = "context" if output == HIDDEN else output
            rows.append(row(encoder, value, None, lambda g, e=encoder, o=output: g.encoded[e][o]))  # type: ignore[misc]
    if family.image_encoder is not None:
        reader = family.image_encoder.component
        for name, made in npu.pictures.items():
            for output in made:
                pick = partial(_of_picture, name, output)
                rows.append(row(reader, f"{name} {output}", None, pick, inner=True))
    *before, denoiser = (part.component for part in family.each_step)
    for k, step in enumerate(npu.steps):
        rows += [
            row(before[-1], name, step.timestep, partial(_of_control, k, name), inner=True)
            for name in step.control
        ]
        rows.append(row(denoiser, "noise", step.timestep, lambda g, k=k: g.steps[k].noise))  # type: ignore[misc]
        rows.append(row(denoiser, "latent", step.timestep, lambda g, k=k: g.steps[k].latent))  # type: ignore[misc]
    rows.append(row(family.decoder.component, "image", None, lambda g: g.image))
    return rows


def _of_picture(picture: str, output: str, made: Generation) -> Array:
    return made.pictures[picture][output]


def _of_control(step: int, output: str, made: Generation) -> Array:
    return made.steps[step].control[output]


def _recorded(bundle: Bundle, component: str) -> list[InputSet]:
    """The inputs that the bundle kept, with what its source made of them."""
    vectors = reference_vectors(bundle, component)
    if vectors is None:
        return []
    graph = bundle.graph_model(component)
    feeds = fitted_inputs(graph, vectors.inputs.items())
    lacking = [info.name for info in graph.graph.input if info.name not in feeds]
    if lacking:
        raise InputError(
            f"{bundle.path}: the reference vectors of {component} lack the input {lacking[0]}. "
            "Compile the model again."
        )
    return [InputSet("recorded inputs", feeds, vectors.outputs)]


def _alone(
    references: References,
    request: Request,
    component: str,
    layers: NpuLayers,
    *,
    recorded_only: bool,
) -> list[ValueAccuracy]:
    """A component by itself: on the inputs that the bundle kept, where its source is not at hand,
    and unless ``recorded_only`` on as many others as make up the request's prompts."""
    bundle = references.bundle
    sets = [] if references.source else _recorded(bundle, component)
    if recorded_only and not sets:
        return []
    exact, rounded = references.model(component), references.rounded(component)
    if recorded_only:
        npu = layers.plain(component)
    else:
        prompts = request.prompts[len(sets) :]
        sets += held_out_sets(
            bundle, component, prompts, request.seed, exact or rounded, layers.say
        )
        npu = layers.network(component, [each.feeds for each in sets])
    random = draws_numbers(bundle.graph_model(component))
    found = []

    def compared(reference: Array | None, other: Array) -> Agreement | None:
        if random:
            return Agreement(inf, remark="it draws random numbers", comparable=False)
        return None if reference is None else agreement(reference, other)

    for each in sets:
        results, graph = npu(each.feeds), rounded(each.feeds)
        source = each.outputs
        if source is None and exact is not None:
            source = exact(each.feeds)
        for output, value in graph.items():
            original = None if source is None else source.get(output)
            made = results.get(output, np.empty(0))
            found.append(
                ValueAccuracy(
                    each.label,
                    component,
                    output,
                    timestep_of(each.feeds),
                    compared(original, made),
                    compared(value, made),
                    compared(original, value),
                )
            )
    return found
