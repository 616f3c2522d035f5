"""Inputs that calibration has not seen, to verify with: prompts, latents of trajectories, the rest
drawn at random (``drawn_inputs``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.compiler.bundle.reference import ReferenceVectors
from edgefusion.models.families.family import (
    CONTEXT,
    IMAGE,
    LATENT,
    NOISE,
    SAMPLE,
    TIMESTEP,
    Family,
    varies,
)
from edgefusion.models.families.pictures import PICTURE
from edgefusion.models.picture_start import mean_latent
from edgefusion.models.pictures import drawn_conditions, drawn_pictures
from edgefusion.models.pipeline_files import config_of as config_of_source
from edgefusion.models.source import Source
from edgefusion.models.text_to_image import Network
from edgefusion.models.trajectories import Denoising, token_ids
from edgefusion.runtime.errors import EdgeFusionError, InputError
from edgefusion.runtime.pipeline_roles import denoiser_of, role_of, runs_each_step
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.drawn_inputs import drawn_inputs, fitted_inputs, zeroed
from edgefusion.toolchain.profiling.pipeline import config_of, family_of, scheduler_of
from edgefusion.toolchain.running.execution import tokenizer_of

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]

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


def recorded_inputs(
    source: Source,
    component: str,
    model: onnx.ModelProto,
    timesteps: Sequence[float],
    earlier: Mapping[str, ReferenceVectors],
) -> dict[str, Array]:
    """One set for ``component``, whose graph is ``model``: of a pipeline, what it is given when the
    first of ``PROMPTS`` becomes an image in one step, as far as ``earlier`` components have shown.

    ``timesteps`` are those that the component will have tables for, if it has any.
    """
    feeds = drawn_inputs(model, np.random.default_rng([SEED, 0]))
    feeds |= fitted_inputs(model, [(TIMESTEP, np.array(t)) for t in timesteps[:1]])
    role, denoiser = role_of(component), denoiser_of(earlier)
    try:
        if role == "encoder" and source.kind != "onnx" and "input_ids" in feeds:
            ids = token_ids(source, component, PROMPTS[:1], feeds["input_ids"].shape[-1])[0]
            return feeds | fitted_inputs(model, [("input_ids", ids)])
        if role == "image_encoder" and IMAGE in feeds:
            return feeds | fitted_inputs(model, [(IMAGE, _picture(source, feeds[IMAGE].shape))])
        if runs_each_step(component) and CONTEXT in feeds:
            conditions = {**_conditions(source, feeds, earlier), **_control(feeds, earlier)}
            steps = trajectory(Denoising.of(source, 1), model, _no_noise, conditions, SEED)
            return steps[0]
        if role == "decoder" and denoiser:
            return feeds | fitted_inputs(model, [(LATENT, _latent(source, earlier[denoiser]))])
    except (EdgeFusionError, KeyError, ValueError, RuntimeError):
        return feeds  # no pipeline that is understood: its parts by themselves
    return feeds


def trajectory(
    denoising: Denoising, model: onnx.ModelProto, predict: Network, conditions: Feeds, seed: int
) -> list[dict[str, Array]]:
    """The inputs of each denoising step of the denoiser ``model`` with ``predict``'s noise; inputs
    that neither denoising nor ``conditions`` know are drawn."""
    rest = drawn_inputs(model, np.random.default_rng([seed, 0]))
    seen: list[dict[str, Array]] = []

    def watched(feeds: Feeds) -> Feeds:
        seen.append(rest | fitted_inputs(model, feeds.items()))
        (noise, *_) = predict(seen[-1]).values()
        return {NOISE: np.asarray(noise, np.float32)}

    shapes = {name: value.shape for name, value in rest.items()}
    denoising.latent(watched, shapes, conditions, seed)
    return seen


def _no_noise(feeds: Feeds) -> Feeds:
    return {NOISE: np.zeros_like(feeds[SAMPLE])}


def _conditions(source: Source, feeds: Feeds, earlier: Mapping[str, ReferenceVectors]) -> Feeds:
    """What the text encoders made, where it fits; else what was drawn (a normal context, as a
    final norm leaves it)."""
    encoded = {
        name: vectors.outputs for name, vectors in earlier.items() if role_of(name) == "encoder"
    }
    shapes = {name: value.shape for name, value in feeds.items()}
    made = source.family.conditions(encoded, shapes)
    read = next((v for name, v in earlier.items() if role_of(name) == "image_encoder"), None)
    factor = config_of_source(source).scaling_factor
    latent = None if read is None else mean_latent(read.outputs, factor)
    scale = source.deployment.control_scale
    made |= _of_pictures(source.family, shapes, SEED, scale, latent)
    fitting = {name: each for name, each in made.items() if each.shape == shapes.get(name)}
    return _same_for_all_steps(feeds) | fitting


def _picture(source: Source, shape: tuple[int, ...]) -> Array:
    """A drawn one, of which the image encoder's latent is given to the denoiser, or that it starts
    from."""
    use, rng = source.family.pictures, np.random.default_rng([SEED, 1])
    drawn = use.derived(drawn_pictures(use, (shape[-2], shape[-1]), rng))
    return drawn[next(iter(use.encoded), use.start or PICTURE)]


def _of_pictures(
    family: Family,
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
    scale: float | None,
    latent: Array | None = None,
) -> dict[str, Array]:
    """What follows from pictures that are drawn, as far as a network of ``shapes`` takes it."""
    rng = np.random.default_rng([seed, 1])
    made = drawn_conditions(family.pictures, shapes, rng, scale, latent)
    return {name: value for name, value in made.items() if name in shapes}


def _control(feeds: Feeds, earlier: Mapping[str, ReferenceVectors]) -> dict[str, Array]:
    """What a control made for the same step, where one is in ``earlier``."""
    made = (vectors.outputs for name, vectors in earlier.items() if role_of(name) == "control")
    return {name: each for outputs in made for name, each in outputs.items() if name in feeds}


def _same_for_all_steps(feeds: Feeds) -> dict[str, Array]:
    """The part of a denoiser's inputs that is the same for all steps, in real numbers; a control
    that is not there adds nothing."""
    return {
        name: np.zeros(value.shape, np.float32) if varies(name) else value.astype(np.float32)
        for name, value in feeds.items()
        if name not in (SAMPLE, TIMESTEP)
    }


def _latent(source: Source, denoiser: ReferenceVectors) -> Array:
    """Where the recorded step leads, as the decoder takes it."""
    (noise, *_) = denoiser.outputs.values()
    shapes = {name: value.shape for name, value in denoiser.inputs.items()}
    conditions = _same_for_all_steps(denoiser.inputs)
    return Denoising.of(source, 1).latent(lambda _: {NOISE: noise}, shapes, conditions, SEED)


@dataclass(frozen=True, slots=True)
class InputSet:
    """Inputs of one evaluation; ``outputs`` where the source once computed them."""

    label: str
    feeds: Feeds
    outputs: Feeds | None = None


def held_out_sets(
    bundle: Bundle,
    component: str,
    prompts: Sequence[str],
    seed: int,
    predict: Network,
    say: Say,
) -> list[InputSet]:
    """For a component by itself, a set (of a U-Net, one a step) for each of ``prompts``: token ids
    for a text encoder with a tokenizer, trajectories with ``predict`` for a U-Net with a normal
    context, else what is drawn. Whole numbers are zero where ``predict`` refuses others."""
    model, family = bundle.graph_model(component), family_of(bundle)
    config = config_of(bundle)
    sets = []
    for index, prompt in enumerate(prompts):
        label = f"random inputs {index + 1}"
        feeds = drawn_inputs(model, np.random.default_rng([seed, index]))
        if runs_each_step(component) and CONTEXT in feeds:
            scheduler = scheduler_of(bundle).at(family.pictures.whole)
            denoising = Denoising(
                scheduler, bundle.manifest.steps, config.scaling_factor, family=family
            )
            shapes = {name: value.shape for name, value in feeds.items()}
            conditions = _same_for_all_steps(feeds) | family.conditions({}, shapes)
            scale = bundle.manifest.deployment.control_scale
            conditions |= _of_pictures(family, shapes, seed + index, scale)
            made = predict if role_of(component) == "denoiser" else _no_noise
            each = trajectory(denoising, model, made, conditions, seed + index)
            sets += [InputSet(label, step) for step in each]
            continue
        if role_of(component) == "encoder" and "input_ids" in feeds:
            try:
                part = family.part(component)
                ids = tokenizer_of(bundle, part, config, say)(prompt).ids
                feeds |= fitted_inputs(model, [("input_ids", ids)])
                label = prompt
            except (InputError, KeyError):
                pass  # random tokens, as it has no tokenizer
        try:
            predict(feeds)
        except InputError:
            feeds = zeroed(feeds)
        sets.append(InputSet(label, feeds))
    return sets
