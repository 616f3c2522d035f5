"""Inputs for calibration as deployment sees them: real denoising trajectories.

Prompts are tokenised, encoded, and denoised at exactly the timesteps that are deployed (2 steps by
LCMScheduler: 999 and 499), by the code that also runs a bundle (``models.text_to_image``).
Everything follows from a seed. A trajectory asks a callable for the predicted noise, so whoever
provides it (ONNX Runtime, a calibrator that looks at inner values, the executor) sees every input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from edgefusion.compiler.bundle.deployment import Guidance
from edgefusion.models.families.family import STUDENT_STEPS, Arrays, Family, Shapes
from edgefusion.models.families.registry import STABLE_DIFFUSION
from edgefusion.models.noise_scheduler import NoiseScheduler
from edgefusion.models.picture_start import Start, from_pictures
from edgefusion.models.pipeline_files import (
    CLIP_VOCABULARY,
    config_of,
)
from edgefusion.models.prompt_file import read_prompts
from edgefusion.models.text_to_image import Network, Sampling, denoise, seeded_generator
from edgefusion.models.tokenization import HashingTokenizer, Tokenizer, own_tokenizer
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.pipeline_roles import role_of, runs_each_step

if TYPE_CHECKING:
    from edgefusion.models.source import Source

Array = npt.NDArray[Any]

PROMPTS = (
    "a photo of a red fox sitting in fresh snow, golden hour",
    "an oil painting of a sailing ship in a storm, dramatic clouds",
    "a bowl of ramen on a wooden table, studio food photography",
    "portrait of an elderly woman laughing, 85mm, shallow depth of field",
    "isometric drawing of a tiny house with a garden, pastel colours",
    "a neon-lit street at night in the rain, reflections, wide angle",
    "macro photo of a dew-covered spider web in the morning",
    "a minimalist logo of a mountain and the moon, flat, white background",
)
"""Varied in subject, style and light, as the ranges of activations depend on all three."""

OWN_PROMPTS = "prompts.txt"
"""In a pipeline's folder: prompts to calibrate it with, one a line."""


def chosen_prompts(wanted: int | Sequence[str], source: Source) -> tuple[str, ...]:
    """The prompts given, or the first ``wanted`` of the source's own, else of the built-in list.

    A pipeline's own are in its folder's ``prompts.txt``, as a model of few words needs. Raises
    UsageError where there are fewer, InputError for a file that cannot be read.
    """
    if not isinstance(wanted, int):
        return tuple(wanted)
    own = source.path / OWN_PROMPTS if source.path is not None else None
    file = own if own is not None and own.is_file() else None
    prompts = read_prompts(file) if file else PROMPTS
    if not 0 <= wanted <= len(prompts):
        raise UsageError(
            f"{wanted} calibration prompts were asked for; expected 0 to {len(prompts)}, as many "
            f"as {file or 'the built-in list'} holds."
        )
    return prompts[:wanted]


@dataclass(frozen=True, slots=True)
class Denoising:
    """How a source's latents are made: its scheduler, the steps, what the VAE scales by, how
    prompts are guided, what networks are given, and how much a picture that is followed counts.

    All of the noise schedule is run, whatever strength a picture that they start from is deployed
    at: what is measured holds for any.
    """

    scheduler: NoiseScheduler
    steps: int
    scaling_factor: float
    guidance: Guidance | None = None
    family: Family = STABLE_DIFFUSION
    shift_factor: float = 0.0
    control_scale: float | None = None

    @classmethod
    def of(cls, source: Source, steps: int) -> Denoising:
        """From the files beside the weights; Stable Diffusion v1's where there are none.

        Raises UsageError for a number of steps that the scheduler does not have, InputError for a
        scheduler that cannot denoise by its configuration.
        """
        source.scheduler.check(steps)
        files = config_of(source)
        return cls(
            source.scheduler.at(source.family.pictures.whole),
            steps,
            files.scaling_factor,
            source.deployment.guidance,
            source.family,
            files.shift_factor,
            source.deployment.control_scale,
        )

    def timesteps(self) -> tuple[float, ...]:
        """The deployed timesteps, one for each run of the denoiser, first to last."""
        return self.scheduler.timesteps(self.steps)

    def begin(self, pictures: Arrays, shapes: Shapes, encode: Network, seed: int) -> Start:
        """What a trajectory with ``pictures`` begins with; ``encode`` is the image encoder."""
        sampling, generator = self._sampling(shapes), seeded_generator(seed)
        return from_pictures(sampling, pictures, encode, generator, self.steps)

    def latent(
        self,
        predict: Network,
        shapes: Shapes,
        conditions: Mapping[str, Array],
        seed: int,
        unconditional: Mapping[str, Array] | None = None,
        begin: Start | None = None,
    ) -> Array:
        """What one trajectory ends in, as the decoder takes it: [1, c, h, w], float32.

        ``predict`` is the denoiser and sees the inputs of each step; ``shapes`` are those of its
        inputs, ``conditions`` those that are the same for all steps, ``unconditional`` those
        without the prompt, where it is guided; ``begin`` is where it begins, if not with noise.
        """
        sampling = self._sampling(shapes)
        done = denoise(
            predict,
            sampling,
            conditions,
            unconditional=unconditional,
            begin=begin,
            seed=seed,
            steps=self.steps,
        )
        return sampling.to_decode(done[-1].latent)

    def _sampling(self, shapes: Shapes) -> Sampling:
        return Sampling(
            shapes,
            self.scheduler,
            self.scaling_factor,
            family=self.family,
            guidance=self.guidance,
            shift_factor=self.shift_factor,
            control_scale=self.control_scale,
        )


def evaluations(source: Source, component: str, steps: int) -> int:
    """How often ``component`` runs for an image of so many steps.

    Raises UsageError for a number of steps that the scheduler cannot do.
    """
    if runs_each_step(component):
        return source.deployment.passes * source.scheduler.at(source.strength).runs(steps)
    role = role_of(component)
    if role == "image_encoder":
        return source.family.pictures.encodings(source.strength)
    return 2 if role == "encoder" and source.deployment.reads_negative else 1


def tabulated_timesteps(source: Source, steps: int = STUDENT_STEPS[0]) -> tuple[float, ...]:
    """The timesteps of 1, 2, 4 and ``steps`` denoising steps, descending: all that a bundle runs,
    of the whole noise schedule and at the deployed strength.

    Raises UsageError for ``steps`` that the scheduler cannot do.
    """
    runs = []
    for scheduler in (source.scheduler, source.scheduler.at(source.strength)):
        runs += [scheduler.timesteps(steps)]
        runs += [scheduler.timesteps(count) for count in STUDENT_STEPS if scheduler.does(count)]
    return tuple(sorted({timestep for run in runs for timestep in run}, reverse=True))


def token_ids(source: Source, component: str, prompts: Sequence[str], length: int) -> list[Array]:
    """Token ids of each prompt for a text encoder, int64 [1, length]."""
    tokenize = tokenizer_of(source, component, length)
    return [tokenize(prompt).ids for prompt in prompts]


def tokenizer_of(source: Source, component: str, length: int) -> Tokenizer:
    """The source's own tokenizer for a text encoder; one that hashes words where it has none."""
    part = source.family.part(component)
    files = config_of(source).tokenizers.get(part.tokenizer)
    if files:
        return own_tokenizer(part.reading, files, length)
    return HashingTokenizer(_vocabulary(source, component), length, part.reading.form)


def _vocabulary(source: Source, component: str) -> int:
    """Tokens that a text encoder knows."""
    if source.architecture is not None:
        network: Any = source.architecture.networks[component]
        return int(network.vocabulary)
    folder = source.family.part(component).folder
    config = source.path / folder / "config.json" if source.path else None
    if config is None or not config.is_file():
        return CLIP_VOCABULARY
    try:
        return int(json.loads(config.read_text(encoding="utf-8"))["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{config} names no vocab_size: {error}. Download it again.") from error
