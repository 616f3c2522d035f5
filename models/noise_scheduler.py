"""What denoises: a scheduler of diffusers, by its class and a pipeline's scheduler_config.json.

Those of the discrete noise of DDPM (Ho et al., 2020) are taken, and Euler's of flow matching
(Lipman et al., 2023), each by its own arithmetic, so that a picture is the one that diffusers'
pipeline makes. A scheduler decides which timesteps the
denoiser sees, and how often it runs for a number of steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from inspect import Parameter, signature
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from edgefusion.compiler.bundle.deployment import LCM
from edgefusion.runtime.errors import InputError, UsageError, in_brief

if TYPE_CHECKING:
    import torch

ORIGINAL_STEPS = 50
"""Timesteps that latent-consistency students are distilled on, where their scheduler says none."""

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

_AS_STABLE_DIFFUSION: Mapping[str, Any] = {"skip_prk_steps": True}
"""Of PNDM where a pipeline brings another: linear multistep from the first step on."""

_SUFFIX = "Scheduler"
_ONCE_A_STEP = (
    *("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep"),
    *("DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete", "LCM", "LMSDiscrete"),
    *("SASolver", "TCD", "UniPCMultistep"),
)
_OFTEN = ("HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "PNDM")
SCHEDULERS: Mapping[str, bool] = MappingProxyType(
    {
        **{f"{name}{_SUFFIX}": True for name in _ONCE_A_STEP},
        **{f"{name}{_SUFFIX}": False for name in _OFTEN},
    }
)
"""Classes of diffusers that denoise DDPM's noise, and whether each runs the network once a step."""
FLOW = f"FlowMatchEulerDiscrete{_SUFFIX}"
"""Denoises what is mixed of noise and picture on a straight line, by the velocity along it."""
_ONCE: Mapping[str, bool] = MappingProxyType({**SCHEDULERS, FLOW: True})

_MOST_TIMESTEPS = 100_000
"""A hundred times what models are trained on; a slip's many zeros would fill the memory."""
_FLOW = "use_flow_sigmas"
_FAILURES = (
    *(ValueError, TypeError, ArithmeticError, NotImplementedError, RuntimeError),
    *(LookupError, AttributeError, AssertionError, ImportError),
)
"""What diffusers' schedulers raise for configurations that make no sense."""


@dataclass(frozen=True, slots=True)
class NoiseScheduler:
    """``name`` is a class of ``SCHEDULERS``, or ``FLOW``. ``config`` holds the pipeline's
    scheduler_config.json, which may be of another class: its noise schedule is then taken over.

    ``strength`` is how much of the noise schedule is run, from a picture to which so much noise was
    added; None where denoising starts from noise. The steps of the whole schedule are cut at it;
    where ``spreads_steps``, all are taken from what is left of the schedule, if the class can.
    """

    name: str = LCM
    config: Mapping[str, Any] = field(default_factory=dict)
    strength: float | None = None
    spreads_steps: bool = False

    def make(self) -> Any:
        """diffusers' scheduler. Raises InputError, naming the key, for a configuration that makes
        none."""
        return deepcopy(_made(self.name, json.dumps(dict(self.config), sort_keys=True)))

    def at(self, strength: float | None) -> NoiseScheduler:
        """The same, for so much of the schedule."""
        return replace(self, strength=strength)

    def begun(self, steps: int) -> tuple[Any, torch.Tensor]:
        """diffusers' scheduler at the begin of so many steps, and the timesteps that it goes
        through from there, as diffusers' image-to-image pipelines cut them.

        Raises UsageError for a number of steps that it cannot do, or of which none is left.
        """
        scheduler = self.prepared(steps)
        if self.strength is None or self._takes_strength(scheduler):
            return scheduler, scheduler.timesteps
        left = min(int(steps * self.strength), steps)
        if left < 1:
            raise UsageError(
                f"--strength is {self.strength:g}, which leaves none of {steps} denoising steps; "
                f"expected {ceil(1000 / steps) / 1000:g} to 1, or more --steps."
            )
        first = (steps - left) * scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        return scheduler, scheduler.timesteps[first:]

    def _takes_strength(self, scheduler: Any) -> bool:
        taken = signature(scheduler.set_timesteps).parameters
        return self.strength is not None and self.spreads_steps and "strength" in taken

    def prepared(self, steps: int) -> Any:
        """diffusers' scheduler at the begin of so many steps of the whole schedule, or of what its
        class itself takes of it.

        Raises UsageError for a number of steps that it cannot do.
        """
        scheduler = self.make()
        original = scheduler.config.get("original_inference_steps")
        most = int(original or scheduler.config.num_train_timesteps)
        if not 1 <= steps <= most:
            why = "takes its timesteps from those that "
            why += (
                "latent-consistency models are distilled on" if original else "noise was added at"
            )
            raise UsageError(
                f"--steps is {steps}; expected 1 to {most} denoising steps, for {self.name} {why}."
            )
        chosen = {"strength": self.strength} if self._takes_strength(scheduler) else {}
        try:
            with quietly():
                scheduler.set_timesteps(steps, **chosen)
        except _FAILURES as error:
            raise UsageError(
                f"--steps is {steps}, which {self.name} cannot do: {in_brief(error)}. Take more "
                "steps, or denoise by another (compile --scheduler)."
            ) from error
        return scheduler

    def timesteps(self, steps: int) -> tuple[float, ...]:
        """What the denoiser is told at each run, first to last; whole numbers are ints.

        Raises UsageError for a number of steps that the scheduler cannot do.
        """
        return tuple(plain_timestep(each) for each in self.begun(steps)[1].tolist())

    def runs(self, steps: int) -> int:
        """How often the denoiser is evaluated for so many steps of an image.

        Raises UsageError for a number of steps that the scheduler cannot do, where that decides it.
        """
        whole = self.strength is None and _ONCE.get(self.name)
        return steps if whole else len(self.timesteps(steps))

    def does(self, steps: int) -> bool:
        """Whether it can do so many steps."""
        try:
            self.begun(steps)
        except UsageError:
            return False
        return True

    @property
    def timestep_dtype(self) -> Literal["int64", "float32"]:
        """Type of the denoiser's input: schedulers of sigmas take fractions of timesteps."""
        timesteps = self.prepared(self.fewest_steps).timesteps
        return "float32" if timesteps.is_floating_point() else "int64"

    @property
    def fewest_steps(self) -> int:
        """That it can do. Raises InputError for a configuration by which it can do none."""
        told: UsageError | None = None
        for steps in range(1, ORIGINAL_STEPS + 1):
            try:
                self.prepared(steps)
            except UsageError as error:
                told = told or error
            else:
                return steps
        raise InputError(
            f"the pipeline's scheduler_config.json gives no {self.name} that denoises: {told}"
        ) from told

    @property
    def predicts(self) -> str:
        """What the denoiser does, as diffusers calls it."""
        if self.name == FLOW:
            return "flow_prediction"
        return str(self.config.get("prediction_type", "epsilon"))

    @property
    def is_of_students(self) -> bool:
        """Whether it belongs to models that were distilled for few steps, as its timesteps tell."""
        import diffusers

        kind = getattr(diffusers, self.name, object)
        return "original_inference_steps" in signature(kind.__init__).parameters

    def check(self, steps: int) -> None:
        """Denoise one value, in so many steps, with a network that predicts nothing.

        Raises InputError where the configuration's own class cannot denoise by it.
        """
        import torch

        scheduler = self.prepared(steps)
        generator = torch.Generator().manual_seed(0)
        sample = first_sample(scheduler, torch.ones(1, 1, 2, 2))
        arguments = step_arguments(scheduler, generator)
        with _telling(self.name):
            for timestep in scheduler.timesteps.tolist():
                given = scaled_input(scheduler, sample, timestep)
                noise = torch.zeros_like(given)
                sample = scheduler.step(noise, timestep, sample, **arguments).prev_sample
                if not bool(sample.isfinite().all()):
                    raise ValueError(f"it makes NaN or infinite values at timestep {timestep:g}")


@lru_cache(maxsize=8)
def _made(name: str, config_text: str) -> Any:
    """Kept, for some classes take half a second to make; for copies, as steps change it."""
    import diffusers

    if name not in _ONCE:
        raise InputError(
            f"the scheduler is {name}; expected one of {', '.join(sorted(_ONCE))}. "
            "Update this tool."
        )
    kind, config = getattr(diffusers, name), json.loads(config_text)
    whole = _whole(kind, config)
    with _telling(name):
        if config.get(_FLOW):
            raise ValueError(f"{_FLOW} is {config[_FLOW]!r}: flow matching is another noise")
        if name == FLOW:
            _check_flow(whole)
            return kind.from_config(whole)
        _check_numbers(whole)
        scheduler = kind.from_config(whole)
        _check_noise(scheduler)
    return scheduler


def _whole(kind: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with defaults: the class's own for its own; for another's, and where there is
    none, Stable Diffusion's."""
    # Keys of other schedulers only: this one has no use for them, and its library would say so.
    known = signature(kind.__init__).parameters
    whole = {k: p.default for k, p in known.items() if p.default is not Parameter.empty}
    if config.get("_class_name") != kind.__name__:
        usual = {**STABLE_DIFFUSION_SCHEDULE, **_AS_STABLE_DIFFUSION}
        whole |= {key: value for key, value in usual.items() if key in known}
    return whole | {key: value for key, value in config.items() if key in known}


@contextmanager
def _telling(name: str) -> Iterator[None]:
    try:
        with quietly():
            yield
    except _FAILURES as error:
        raise InputError(
            f"the pipeline's scheduler_config.json gives no {name} that denoises: "
            f"{in_brief(error)}. Correct it in the source and compile again."
        ) from error


def first_sample(scheduler: Any, noise: torch.Tensor) -> torch.Tensor:
    """What denoising begins with, of normal ``noise``."""
    return noise * float(getattr(scheduler, "init_noise_sigma", 1.0))


def scaled_input(scheduler: Any, sample: torch.Tensor, timestep: float) -> torch.Tensor:
    """What the denoiser is given; flow matching's schedulers leave samples as they are."""
    if not hasattr(scheduler, "scale_model_input"):
        return sample
    scaled: torch.Tensor = scheduler.scale_model_input(sample, timestep)
    return scaled


def step_arguments(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    """What ``scheduler.step`` takes beside noise, timestep and sample, as diffusers' pipelines give
    it: no noise of DDIM's own (eta 0), all other from the generator."""
    known = signature(scheduler.step).parameters
    return {k: v for k, v in {"eta": 0.0, "generator": generator}.items() if k in known}


def plain_timestep(value: float) -> float:
    """A timestep as the denoiser sees it: an int where it is whole, else in float32's precision."""
    import numpy as np

    seen = float(np.float32(value))
    return int(seen) if seen.is_integer() else seen


def scheduler_named(text: str) -> str:
    """The class of ``SCHEDULERS`` that ``text`` means, with or without "Scheduler", in any case.

    Raises UsageError for none.
    """
    short = {name.removesuffix(_SUFFIX).lower(): name for name in SCHEDULERS}
    wanted = text.lower().removesuffix(_SUFFIX.lower())
    if wanted in short:
        return short[wanted]
    close = get_close_matches(wanted, short, 1)
    hint = f" Did you mean {short[close[0]].removesuffix(_SUFFIX)}?" if close else ""
    known = ", ".join(sorted(name.removesuffix(_SUFFIX) for name in SCHEDULERS))
    raise UsageError(
        f"--scheduler {text}: expected own (the pipeline's), or a scheduler of diffusers that "
        f"takes DDPM's noise: {known}.{hint}"
    )


@contextmanager
def quietly() -> Iterator[None]:
    """diffusers says what it changes of a configuration for a number of steps, which it then does;
    and what numpy will no longer do for it."""
    import warnings

    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)


def _check_numbers(config: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the key, for numbers of a noise schedule that make no sense."""
    for key in ("beta_start", "beta_end"):
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise ValueError(f"{key} is {value!r}, not between 0 and 1")
    _check_timesteps(config)
    if config["prediction_type"] not in PREDICTION_TYPES:
        raise ValueError(
            f"prediction_type is {config['prediction_type']!r}, not {', '.join(PREDICTION_TYPES)}"
        )


def _check_timesteps(config: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the key, for numbers of timesteps that make no sense."""
    most = config["num_train_timesteps"]
    if isinstance(most, int) and most > _MOST_TIMESTEPS:
        raise ValueError(f"num_train_timesteps is {most}, more than {_MOST_TIMESTEPS:,}")
    for key in ("num_train_timesteps", "original_inference_steps"):
        if key not in config:
            continue
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            limit = "" if key == "num_train_timesteps" else f" to num_train_timesteps ({most})"
            raise ValueError(f"{key} is {value!r}, no whole number from 1{limit}")


def _check_flow(config: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the key, for flow matching that is not supported or makes no
    sense."""
    shift = config["shift"]
    if isinstance(shift, bool) or not isinstance(shift, int | float) or not 0 < shift < 1000:
        raise ValueError(f"shift is {shift!r}, no number above 0")
    _check_timesteps(config)
    for key, why in _FIXED_FLOW.items():
        if config[key]:
            raise ValueError(f"{key} is {config[key]!r}: {why}")


_FIXED_FLOW: Mapping[str, str] = MappingProxyType(
    {
        "use_dynamic_shifting": "timesteps would depend on the picture's size",
        "stochastic_sampling": "its steps draw noise that does not depend on the seed",
        "invert_sigmas": "it goes from picture to noise",
    }
)


def _check_noise(scheduler: Any) -> None:
    """Raises ValueError for a noise schedule that cannot be denoised at each of its timesteps."""
    import numpy as np

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
