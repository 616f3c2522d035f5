"""A prompt's tokens to an image: text encoders, latent-consistency steps, image decoder.

The networks come as callables on named arrays; whether the simulated NPU or ONNX Runtime
computes them makes no difference here, and what each is given its family says. Noise depends on
the seed alone, so two such runs compare. Method: latent consistency models (Luo et al., 2023), by
diffusers' ``LCMScheduler``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.models.families.family import (
    IMAGE,
    LATENT,
    NOISE,
    SAMPLE,
    TIMESTEP,
    Family,
    Shapes,
)
from edgefusion.models.families.registry import STABLE_DIFFUSION
from edgefusion.runtime.errors import InputError, UsageError, in_brief
from edgefusion.runtime.progress import Say, silent

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Network = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Inputs by name to outputs by name, all real numbers (token ids and timesteps int64)."""
Networks = Callable[[str], Network]
"""The networks of a pipeline by component; each is asked for when it is wanted."""

ORIGINAL_STEPS = 50
"""Timesteps that latent-consistency students are distilled on, where their scheduler says none."""

OWN_SCHEDULER = "LCMScheduler"
"""What denoises, whichever scheduler a pipeline brings."""

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")
"""What a U-Net may predict: the noise, the clean sample, or the velocity between them."""

STABLE_DIFFUSION_SCHEDULE: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "epsilon",
    "set_alpha_to_one": True,
}
"""The noise schedule of Stable Diffusion v1, where a pipeline brings none."""

LARGEST_SEED = 2**64 - 1
"""Of noise."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How latents are made: ``shapes`` of the denoiser's inputs (its sample's [1, c, h, w]), the
    scheduler's configuration (over ``STABLE_DIFFUSION_SCHEDULE``), the VAE's scaling, the timesteps
    that the denoiser has tables for (none: it takes any), and what the networks are given."""

    shapes: Shapes
    scheduler: Mapping[str, Any]
    scaling_factor: float
    tabulated: tuple[int, ...] = ()
    family: Family = STABLE_DIFFUSION

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """[1, channels, height, width]."""
        return self.shapes[SAMPLE]

    def to_decode(self, latent: Array) -> npt.NDArray[np.float32]:
        """A denoised latent as the image decoder takes it."""
        return (latent / self.scaling_factor).astype(np.float32)

    def timesteps(self, steps: int) -> tuple[int, ...]:
        """Those of so many steps, first to last.

        Raises UsageError for a number that the scheduler cannot do or the U-Net has no tables for.
        """
        wanted = deployed_timesteps(self.scheduler, steps)
        lacking = [str(each) for each in wanted if self.tabulated and each not in self.tabulated]
        if lacking:
            possible = [
                str(count)
                for count in range(1, len(self.tabulated) + 1)
                if set(deployed_timesteps(self.scheduler, count)) <= set(self.tabulated)
            ]
            raise UsageError(
                f"--steps is {steps}: the bundle has no tables for timestep {', '.join(lacking)}; "
                f"expected one of {', '.join(possible) or 'none'}, which it was compiled for. "
                f"Compile with --steps {steps}, or with --any-timestep."
            )
        return wanted


@dataclass(frozen=True, slots=True)
class Step:
    """One denoising step: what the U-Net was given and made, and the latent after it.

    ``latent`` is the denoised estimate, before noise is added for the next step.
    """

    timestep: int
    inputs: Mapping[str, Array]
    noise: Array
    latent: Array


@dataclass(frozen=True, slots=True)
class Generation:
    """What the text encoders made, by component; all steps, and the image [h, w, 3] as bytes."""

    encoded: Mapping[str, Mapping[str, Array]]
    steps: tuple[Step, ...]
    image: npt.NDArray[np.uint8]


def generate(
    networks: Networks,
    sampling: Sampling,
    ids: Mapping[str, npt.NDArray[np.int64]],
    *,
    seed: int = 0,
    steps: int = 2,
    say: Say | None = None,
) -> Generation:
    """Make an image of the prompt's token ``ids``, [1, tokens] for each text encoder.

    Raises UsageError for a seed that is too large or a number of steps that the scheduler or the
    U-Net cannot do, InputError for a scheduler configuration that is not understood or values that
    overflow.
    """
    # 1. Check the request
    sampling.timesteps(steps)
    seeded_generator(seed)
    tell = say or silent

    # 2. Prompt to conditions
    family = sampling.family
    encoded = {}
    for number, part in enumerate(family.encoders, 1):
        name = f"text encoder {number}" if len(family.encoders) > 1 else "text encoder"
        tell(name)
        made = networks(part.component)({"input_ids": ids[part.component]})
        encoded[part.component] = {key: _finite(value, name) for key, value in made.items()}
    conditions = family.conditions(encoded, sampling.shapes)

    # 3. Denoise
    denoiser = networks(family.denoiser.component)
    done = denoise(denoiser, sampling, conditions, seed=seed, steps=steps, say=say)

    # 4. Decode
    tell("image decoder")
    decode = networks(family.decoder.component)
    image = _finite(decode({LATENT: sampling.to_decode(done[-1].latent)})[IMAGE], "image decoder")
    return Generation(encoded, done, as_pixels(image))


def denoise(
    predict: Network,
    sampling: Sampling,
    conditions: Mapping[str, Array],
    *,
    seed: int = 0,
    steps: int = 2,
    say: Say | None = None,
) -> tuple[Step, ...]:
    """The steps of one trajectory of a denoiser, whose other inputs are ``conditions``; the last
    latent is the result, not yet divided by the VAE's scaling factor."""
    import torch

    scheduler = lcm_scheduler(sampling.scheduler)
    scheduler.set_timesteps(steps)
    generator = seeded_generator(seed)
    sample = torch.randn(sampling.latent_shape, generator=generator)
    sample = sample * float(scheduler.init_noise_sigma)
    done = []
    for number, timestep in enumerate(scheduler.timesteps.tolist(), 1):
        if say is not None:
            say(f"U-Net, step {number} of {steps}, timestep {timestep}")
        inputs = step_inputs(sample.numpy(), timestep, conditions)
        noise = _finite(predict(inputs)[NOISE], f"U-Net at timestep {timestep}")
        sample, denoised = scheduler.step(
            torch.from_numpy(noise), timestep, sample, generator=generator, return_dict=False
        )
        done.append(Step(timestep, inputs, noise, denoised.numpy().copy()))
    return tuple(done)


def seeded_generator(seed: int) -> torch.Generator:
    """torch's generator on the CPU. Raises UsageError for a seed that it does not take."""
    import torch

    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"--seed is {seed}; expected 0 to {LARGEST_SEED}.")
    return torch.Generator().manual_seed(seed)


def step_inputs(sample: Array, timestep: int, conditions: Mapping[str, Array]) -> dict[str, Array]:
    """The denoiser's inputs by name."""
    return {
        SAMPLE: sample.astype(np.float32),
        TIMESTEP: np.array([timestep], np.int64),
        **conditions,
    }


def lcm_scheduler(config: Mapping[str, Any]) -> Any:
    """diffusers' LCMScheduler with the noise schedule of ``config``, a scheduler_config.json.

    Raises InputError for a configuration that makes none.
    """
    from inspect import signature

    from diffusers import LCMScheduler

    # Keys of other schedulers only: LCM's has no use for them, and its library would say so.
    known = signature(LCMScheduler.__init__).parameters
    whole = {"original_inference_steps": ORIGINAL_STEPS, **STABLE_DIFFUSION_SCHEDULE}
    whole |= {key: value for key, value in config.items() if key in known}
    try:
        _check_numbers(whole)
        scheduler = LCMScheduler.from_config(whole)
        _check_noise(scheduler)
    except (ValueError, TypeError, ArithmeticError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"the pipeline's scheduler_config.json gives no LCMScheduler: {in_brief(error)}. "
            "Correct it in the source and compile again."
        ) from error
    return scheduler


def _check_numbers(config: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the key, for numbers of a noise schedule that make no sense."""
    for key in ("beta_start", "beta_end"):
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise ValueError(f"{key} is {value!r}, not between 0 and 1")
    most = config["num_train_timesteps"]
    for key in ("num_train_timesteps", "original_inference_steps"):
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            limit = "" if key == "num_train_timesteps" else f" to num_train_timesteps ({most})"
            raise ValueError(f"{key} is {value!r}, no whole number from 1{limit}")
    if config["prediction_type"] not in PREDICTION_TYPES:
        raise ValueError(
            f"prediction_type is {config['prediction_type']!r}, not {', '.join(PREDICTION_TYPES)}"
        )


def _check_noise(scheduler: Any) -> None:
    """Raises ValueError for a noise schedule that cannot be denoised at each of its timesteps."""
    config, kept = scheduler.config, scheduler.alphas_cumprod.numpy()
    if len(kept) != config.num_train_timesteps:
        raise ValueError(f"trained_betas has {len(kept)} of {config.num_train_timesteps} values")
    if not np.isfinite(kept).all() or kept.min() < 0 or kept.max() > 1:
        raise ValueError("trained_betas are not between 0 and 1")
    if config.prediction_type == "epsilon" and kept.min() == 0:
        raise ValueError(
            "rescale_betas_zero_snr leaves nothing of the sample at the last timestep, so that "
            "prediction_type epsilon cannot find it"
        )


def deployed_timesteps(config: Mapping[str, Any], steps: int) -> tuple[int, ...]:
    """The timesteps of so many denoising steps with the scheduler of ``config``, first to last.

    Raises UsageError for a number of steps that it cannot do.
    """
    scheduler = lcm_scheduler(config)
    most = int(scheduler.config.original_inference_steps)
    if not 1 <= steps <= most:
        raise UsageError(
            f"--steps is {steps}; expected 1 to {most} denoising steps, for {OWN_SCHEDULER} takes "
            "its timesteps from those that latent-consistency models are distilled on."
        )
    scheduler.set_timesteps(steps)
    return tuple(int(timestep) for timestep in scheduler.timesteps)


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
