"""A prompt's tokens to an image: text encoders, denoising steps, image decoder; with pictures, the
image encoder before them.

The networks come as callables on named arrays; whether the simulated NPU or ONNX Runtime
computes them makes no difference here, and what each is given its family says. Noise depends on
the seed alone, so two such runs compare. The steps are those of a scheduler of diffusers
(``models.noise_scheduler``), taken as diffusers' pipelines take them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.bundle.deployment import Guidance
from edgefusion.models.families.family import (
    GUIDANCE,
    GUIDANCE_SCALE,
    IMAGE,
    LATENT,
    NOISE,
    RESIDUAL,
    SAMPLE,
    TIMESTEP,
    Family,
    Shapes,
)
from edgefusion.models.families.registry import STABLE_DIFFUSION
from edgefusion.models.guidance import as_zeros
from edgefusion.models.noise_scheduler import (
    NoiseScheduler,
    plain_timestep,
    quietly,
    scaled_input,
    step_arguments,
)
from edgefusion.models.picture_start import Start, from_noise, from_pictures
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.progress import Say, silent

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Network = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Inputs by name to outputs by name, all real numbers (token ids and timesteps int64)."""
Networks = Callable[[str], Network]
"""The networks of a pipeline by component; each is asked for when it is wanted."""

LARGEST_SEED = 2**64 - 1
"""Of noise."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How latents are made: ``shapes`` of the inputs of what runs every step (the sample's
    [1, c, h, w]), the scheduler, the VAE's scaling, the timesteps that the denoiser has tables for
    (none: it takes any), what the networks are given, how prompts are guided (None: not, or as a
    student that takes guidance as an input was distilled), and how much a picture that is followed
    counts (None: as usual)."""

    shapes: Shapes
    scheduler: NoiseScheduler
    scaling_factor: float
    tabulated: tuple[float, ...] = ()
    family: Family = STABLE_DIFFUSION
    guidance: Guidance | None = None
    shift_factor: float = 0.0
    """Added to latents behind the scaling."""
    control_scale: float | None = None

    @property
    def takes_scale(self) -> bool:
        """Whether the denoiser takes guidance as an input."""
        return GUIDANCE in self.shapes

    @property
    def is_guided(self) -> bool:
        """Whether the denoiser is run without the prompt, too."""
        return self.guidance is not None and self.guidance.passes == 2

    def conditions(self, encoded: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
        """The denoiser's inputs that are the same for all steps, of what the text encoders made."""
        scale = GUIDANCE_SCALE if self.guidance is None else self.guidance.scale
        return self.family.conditions(encoded, self.shapes, scale)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """[1, channels, height, width]."""
        return self.shapes[SAMPLE]

    def to_decode(self, latent: Array) -> npt.NDArray[np.float32]:
        """A denoised latent as the image decoder takes it."""
        return (latent / self.scaling_factor + self.shift_factor).astype(np.float32)

    def timesteps(self, steps: int) -> tuple[float, ...]:
        """Those of each run of the denoiser in so many steps, first to last.

        Raises UsageError for a number that the scheduler cannot do or the denoiser has no tables
        for.
        """
        wanted = self.scheduler.timesteps(steps)
        lacking = [f"{each:g}" for each in wanted if self.tabulated and each not in self.tabulated]
        if lacking:
            possible = [
                str(count)
                for count in range(1, len(self.tabulated) + 1)
                if self.scheduler.does(count)
                and set(self.scheduler.timesteps(count)) <= set(self.tabulated)
            ]
            raise UsageError(
                f"--steps is {steps}: the bundle has no tables for timestep {', '.join(lacking)}; "
                f"expected one of {', '.join(possible) or 'none'}, which it was compiled for. "
                f"Compile with --steps {steps}{self._cut}, or with --any-timestep."
            )
        return wanted

    @property
    def _cut(self) -> str:
        strength = self.scheduler.strength
        return "" if strength is None else f" and --strength {strength:g}"


@dataclass(frozen=True, slots=True)
class Step:
    """One prediction of the denoiser: what it was given and made, and the latent after it.

    ``passes`` are the inputs of each run, the one with the prompt last; guided, there is one
    without before it, and ``noise`` goes from that prediction past the other.
    ``control`` is what runs before the denoiser made for it in the pass with the prompt, where that
    was to be kept: much, of a large picture.
    ``latent`` is the sample that the scheduler goes on with; of schedulers that tell it apart, the
    denoised estimate, before noise is added for the next step.
    """

    timestep: float
    passes: tuple[Mapping[str, Array], ...]
    noise: Array
    latent: Array
    control: Mapping[str, Array] = field(default_factory=dict)

    @property
    def inputs(self) -> Mapping[str, Array]:
        """Those with the prompt."""
        return self.passes[-1]


@dataclass(frozen=True, slots=True)
class Generation:
    """What the text encoders made, by component; all steps, and the image [h, w, 3] as bytes;
    ``pictures``: what the image encoder made of each."""

    encoded: Mapping[str, Mapping[str, Array]]
    steps: tuple[Step, ...]
    image: npt.NDArray[np.uint8]
    pictures: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)


def generate(
    networks: Networks,
    sampling: Sampling,
    ids: Mapping[str, npt.NDArray[np.int64]],
    *,
    negative: Mapping[str, npt.NDArray[np.int64]] | None = None,
    pictures: Mapping[str, Array] | None = None,
    seed: int = 0,
    steps: int,
    keeps_control: bool = False,
    say: Say | None = None,
) -> Generation:
    """Make an image of the prompt's token ``ids``, [1, tokens] for each text encoder; guided, away
    from the ``negative`` prompt's, or from zeros where there is none; with the ``pictures`` that
    the family takes, by name, as networks are given them.

    Raises UsageError for a seed that is too large or a number of steps that the scheduler or the
    denoiser cannot do, InputError for a scheduler configuration that is not understood or values
    that overflow.
    """
    # 1. Check the request
    sampling.timesteps(steps)
    generator = seeded_generator(seed)
    tell = say or silent

    # 2. Prompt to conditions
    family = sampling.family
    encoded, without = {}, {}
    for number, part in enumerate(family.encoders, 1):
        name = f"text encoder {number}" if len(family.encoders) > 1 else "text encoder"
        tell(name)
        encode = networks(part.component)

        def read(
            tokens: npt.NDArray[np.int64], encode: Network = encode, name: str = name
        ) -> dict[str, Array]:
            made = encode({"input_ids": tokens})
            return {key: _finite(value, name) for key, value in made.items()}

        encoded[part.component] = read(ids[part.component])
        if negative is not None and sampling.is_guided:
            without[part.component] = read(negative[part.component])
    unconditional = None
    if sampling.is_guided:
        unconditional = sampling.conditions(without or as_zeros(encoded))

    # 3. Pictures to what denoising begins with
    begin = None
    if pictures:
        reader = family.image_encoder
        encode_picture = networks(reader.component) if reader is not None else None

        def read_picture(inputs: Mapping[str, Array]) -> dict[str, Array]:
            assert encode_picture is not None
            tell("image encoder")
            made = encode_picture(inputs)
            return {key: _finite(value, "image encoder") for key, value in made.items()}

        begin = from_pictures(sampling, pictures, read_picture, generator, steps)

    # 4. Denoise
    done = denoise(
        chained([networks(part.component) for part in family.each_step]),
        sampling,
        sampling.conditions(encoded),
        unconditional=unconditional,
        begin=begin,
        seed=seed,
        steps=steps,
        keeps_control=keeps_control,
        say=say,
    )

    # 5. Decode
    tell("image decoder")
    decode = networks(family.decoder.component)
    image = _finite(decode({LATENT: sampling.to_decode(done[-1].latent)})[IMAGE], "image decoder")
    return Generation(encoded, done, as_pixels(image), begin.encoded if begin else {})


def denoise(
    predict: Network,
    sampling: Sampling,
    conditions: Mapping[str, Array],
    *,
    unconditional: Mapping[str, Array] | None = None,
    begin: Start | None = None,
    seed: int = 0,
    steps: int,
    keeps_control: bool = False,
    say: Say | None = None,
) -> tuple[Step, ...]:
    """The steps of one trajectory of a denoiser, whose other inputs are ``conditions``, and
    ``unconditional`` in a pass without the prompt where it is guided; with those that ``begin``
    has, which is noise by the ``seed`` where there is none. The last latent is the result, not yet
    divided by the VAE's scaling factor."""
    import torch

    scheduler, remaining = sampling.scheduler.begun(steps)
    if begin is None:
        begin = from_noise(scheduler, sampling.latent_shape, seeded_generator(seed))
    arguments = step_arguments(scheduler, begin.generator)
    sample, timesteps = begin.sample, remaining.tolist()
    title = sampling.family.denoiser.kind.title
    run = "step" if len(timesteps) == steps else "run"
    prompts = (conditions,) if unconditional is None else (unconditional, conditions)
    given = [{**prompt, **begin.conditions} for prompt in prompts]
    done = []
    for number, timestep in enumerate(timesteps, 1):
        shown = plain_timestep(timestep)
        if say is not None:
            say(f"{title}, {run} {number} of {len(timesteps)}, timestep {shown:g}")
        scaled = scaled_input(scheduler, sample, timestep)
        at = f"{title} at timestep {shown:g}"
        passes = tuple(step_inputs(scaled.numpy(), timestep, each) for each in given)
        results = [predict(inputs) for inputs in passes]
        predicted = [_finite(result[NOISE], at) for result in results]
        chosen = predicted[-1]
        if len(predicted) == 2 and sampling.guidance is not None:
            scale = np.float32(sampling.guidance.scale)
            chosen = predicted[0] + scale * (chosen - predicted[0])
        with quietly():
            made = scheduler.step(torch.from_numpy(chosen), timestep, sample, **arguments)
        sample = made.prev_sample
        latent = made.get("denoised", sample)  # latent consistency's alone has one
        kept = results[-1].items() if keeps_control else ()
        control = {name: value for name, value in kept if name.startswith(RESIDUAL)}
        done.append(Step(shown, passes, chosen, latent.numpy().astype(np.float32), control))
    return tuple(done)


def chained(networks: Sequence[Network]) -> Network:
    """``networks``, one after another, as one that makes what all of them do. Each is given all
    that there is, with what those before it have made."""
    if len(networks) == 1:
        return networks[0]

    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        made: dict[str, Array] = {}
        for network in networks:
            made |= network({**inputs, **made})
        return made

    return run


def seeded_generator(seed: int) -> torch.Generator:
    """torch's generator on the CPU. Raises UsageError for a seed that it does not take."""
    import torch

    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"--seed is {seed}; expected 0 to {LARGEST_SEED}.")
    return torch.Generator().manual_seed(seed)


def step_inputs(
    sample: Array, timestep: float, conditions: Mapping[str, Array]
) -> dict[str, Array]:
    """The denoiser's inputs by name; the timestep int64 [1], of a float float32."""
    return {
        SAMPLE: sample.astype(np.float32),
        TIMESTEP: np.array([timestep], np.int64 if isinstance(timestep, int) else np.float32),
        **conditions,
    }


def as_pixels(image: Array) -> npt.NDArray[np.uint8]:
    """Decoder output [1, 3, h, w] in [-1, 1] to bytes [h, w, 3]."""
    scaled = np.clip(image[0].astype(np.float64) / 2 + 0.5, 0.0, 1.0)
    pixels: npt.NDArray[np.uint8] = np.rint(scaled.transpose(1, 2, 0) * 255).astype(np.uint8)
    return pixels


def _finite(values: Array, what: str) -> npt.NDArray[np.float32]:
    if not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise InputError(
            f"the {what} made {bad} values of {values.size} that are NaN or infinite. FP16 "
            "overflows beyond 65504: give its ops precision w8a16 in the recipe, or check the "
            "checkpoint with --reference."
        )
    return np.asarray(values, np.float32)
