"""Where denoising begins: noise, or the latent of a picture with noise added; and what else follows
from pictures.

Everything random is drawn here and in the steps after it from one generator, in the order in which
diffusers' pipelines draw it, so that a seed gives their picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.models.families.family import IMAGE, LATENT
from edgefusion.models.families.pictures import MOMENTS, Seen
from edgefusion.models.noise_scheduler import first_sample

if TYPE_CHECKING:
    import torch

    from edgefusion.models.text_to_image import Sampling

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Encode = Callable[[Arrays], Arrays]

_LEAST, _MOST = -30.0, 20.0
"""Of a logarithm of variance, as the VAE's training clips it."""


@dataclass(frozen=True, slots=True)
class Start:
    """The first step's ``sample``, not yet scaled for the denoiser; the ``generator`` of all noise
    after it; the ``conditions`` that follow from pictures, and what the image encoder made of each,
    by the picture's name."""

    sample: torch.Tensor
    generator: torch.Generator
    conditions: Arrays = field(default_factory=dict)
    encoded: Mapping[str, Arrays] = field(default_factory=dict)


def from_noise(scheduler: Any, shape: tuple[int, ...], generator: torch.Generator) -> Start:
    """Noise of the size with which ``scheduler``, diffusers', begins."""
    import torch

    return Start(first_sample(scheduler, torch.randn(shape, generator=generator)), generator)


def mean_latent(made: Arrays, scaling_factor: float) -> Array:
    """Of what the image encoder ``made`` the likeliest latent [1, c, h, w], as the denoiser takes
    it."""
    if MOMENTS in made:
        return scaling_factor * np.split(np.asarray(made[MOMENTS]), 2, axis=1)[0]
    return scaling_factor * np.asarray(made[LATENT])


def from_pictures(
    sampling: Sampling, pictures: Arrays, encode: Encode, generator: torch.Generator, steps: int
) -> Start:
    """As the family of ``sampling`` says of ``pictures``, by name, at its scheduler's strength, for
    so many steps; ``encode`` is the image encoder.

    Raises UsageError for steps that the scheduler cannot do.
    """
    import torch

    use, strength = sampling.family.pictures, sampling.scheduler.strength
    derived = use.derived(pictures)
    encoded: dict[str, Arrays] = {}

    def latent(name: str) -> torch.Tensor:
        made = encode({IMAGE: derived[name]})
        encoded[name] = made
        if MOMENTS not in made:
            return torch.from_numpy(mean_latent(made, sampling.scaling_factor))
        mean, spread = torch.from_numpy(np.array(made[MOMENTS])).chunk(2, dim=1)
        deviation = torch.exp(0.5 * spread.clamp(_LEAST, _MOST))
        drawn = mean + deviation * torch.randn(mean.shape, generator=generator)
        return sampling.scaling_factor * drawn

    scheduler, timesteps = sampling.scheduler.begun(steps)
    first = use.starts_from(strength)
    if first is None:
        begin = from_noise(scheduler, sampling.latent_shape, generator)
    else:
        clean = latent(first)
        noise = torch.randn(sampling.latent_shape, generator=generator)
        begin = Start(scheduler.add_noise(clean, noise, timesteps[:1]), generator)
    latents = {name: latent(name).numpy() for name in use.encoded}
    seen = Seen(derived, latents, sampling.shapes, sampling.control_scale)
    return replace(begin, conditions=use.conditions(seen), encoded=encoded)
