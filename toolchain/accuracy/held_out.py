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
from edgefusion.models.pipeline_files import PREFIX, pipeline_config
from edgefusion.models.source import Source
from edgefusion.models.text_to_image import Network
from edgefusion.models.trajectories import Denoising, token_ids
from edgefusion.runtime.errors import EdgeFusionError, InputError
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.drawn_inputs import drawn_inputs, fitted_inputs, zeroed
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
    timesteps: Sequence[int],
    earlier: Mapping[str, ReferenceVectors],
) -> dict[str, Array]:
    """One set for ``component``, whose graph is ``model``: of a pipeline, what it is given when the
    first of ``PROMPTS`` becomes an image in one step, as far as ``earlier`` components have shown.

    ``timesteps`` are those that the component will have tables for, if it has any.
    """
    feeds = drawn_inputs(model, np.random.default_rng([SEED, 0]))
    feeds |= fitted_inputs(model, [("timestep", np.array(t)) for t in timesteps[:1]])
    try:
        if component == "text_encoder" and source.kind != "onnx" and "input_ids" in feeds:
            ids = token_ids(source, PROMPTS[:1], feeds["input_ids"].shape[-1])[0]
            return feeds | fitted_inputs(model, [("input_ids", ids)])
        if component == "unet" and "encoder_hidden_states" in feeds:
            context = _context(feeds, earlier)
            steps = trajectory(Denoising.of(source, 1), model, _no_noise, context, SEED)
            return steps[0]
        if component == "vae_decoder" and "unet" in earlier:
            return feeds | fitted_inputs(model, [("latent", _latent(source, earlier["unet"]))])
    except (EdgeFusionError, KeyError, ValueError, RuntimeError):
        return feeds  # no pipeline that is understood: its parts by themselves
    return feeds


def trajectory(
    denoising: Denoising, model: onnx.ModelProto, predict: Network, context: Array, seed: int
) -> list[dict[str, Array]]:
    """The inputs of each denoising step of the U-Net ``model`` with ``predict``'s noise; inputs
    that denoising does not know are drawn. ``context`` is [1, tokens, width]."""
    rest = drawn_inputs(model, np.random.default_rng([seed, 0]))
    seen: list[dict[str, Array]] = []

    def watched(feeds: Feeds) -> Feeds:
        seen.append(rest | fitted_inputs(model, feeds.items()))
        (noise, *_) = predict(seen[-1]).values()
        return {"noise_pred": np.asarray(noise, np.float32)}

    shapes = {name: value.shape for name, value in rest.items()}
    denoising.latent(watched, shapes, context.astype(np.float32), seed)
    return seen


def _no_noise(feeds: Feeds) -> Feeds:
    return {"noise_pred": np.zeros_like(feeds["sample"])}


def _context(feeds: Feeds, earlier: Mapping[str, ReferenceVectors]) -> Array:
    """What the text encoder made, where it fits; else normal values, as its final norm leaves."""
    drawn = feeds["encoder_hidden_states"]
    made = earlier["text_encoder"].outputs.values() if "text_encoder" in earlier else ()
    return next((value for value in made if value.shape == drawn.shape), drawn)


def _latent(source: Source, unet: ReferenceVectors) -> Array:
    """Where the recorded step leads, as the decoder takes it."""
    (noise, *_) = unet.outputs.values()
    shapes = {name: value.shape for name, value in unet.inputs.items()}
    context = unet.inputs["encoder_hidden_states"]
    return Denoising.of(source, 1).latent(lambda _: {"noise_pred": noise}, shapes, context, SEED)


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
    steps: int,
    predict: Network,
    say: Say,
) -> list[InputSet]:
    """For a component by itself, a set (of a U-Net, one a step) for each of ``prompts``: token ids
    for a text encoder with a tokenizer, trajectories with ``predict`` for a U-Net with a normal
    context, else what is drawn. Whole numbers are zero where ``predict`` refuses others."""
    model = bundle.graph_model(component)
    files = {n: bundle.read(n) for n in bundle.manifest.members if n.startswith(PREFIX)}
    sets = []
    for index, prompt in enumerate(prompts):
        label = f"random inputs {index + 1}"
        feeds = drawn_inputs(model, np.random.default_rng([seed, index]))
        if component == "unet" and "encoder_hidden_states" in feeds:
            denoising = Denoising(pipeline_config(files), steps)
            context = feeds["encoder_hidden_states"]
            each = trajectory(denoising, model, predict, context, seed + index)
            sets += [InputSet(label, step) for step in each]
            continue
        if component == "text_encoder" and "input_ids" in feeds:
            try:
                ids = tokenizer_of(bundle, pipeline_config(files), say)(prompt).ids
                feeds |= fitted_inputs(model, [("input_ids", ids)])
                label = prompt
            except InputError:
                pass  # random tokens, as it has no tokenizer
        try:
            predict(feeds)
        except InputError:
            feeds = zeroed(feeds)
        sets.append(InputSet(label, feeds))
    return sets
