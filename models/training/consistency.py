"""The arithmetic of latent-consistency distillation (Luo et al., 2023), without any network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from edgefusion.models.training.noise_schedule import NoiseSchedule

SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0
"""Of the boundary condition, as in diffusers' LCMScheduler."""


def boundary_scalings(t: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """c_skip and c_out at timesteps ``t`` [n], shaped to scale ``like`` [n, ...].

    They make f(x, 0) = x whatever the network says: c_skip(0) = 1, c_out(0) = 0.
    """
    scaled = TIMESTEP_SCALING * t.float().view(-1, *[1] * (like.dim() - 1))
    squares = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / squares, scaled / squares.sqrt()


def consistency_function(
    schedule: NoiseSchedule, predicted: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor
) -> torch.Tensor:
    """f(x_t, t): where a trajectory through ``noisy`` begins, by a network's prediction there."""
    c_skip, c_out = boundary_scalings(t, noisy)
    return c_skip * noisy.float() + c_out * schedule.denoised(predicted, noisy, t)


@dataclass(frozen=True, slots=True)
class DdimSolver:
    """DDIM (Song et al., 2021) in ``steps`` equal steps over all timesteps.

    Step ``i`` starts at ``starts[i]`` = (i + 1) k - 1 and ends at ``ends[i]`` = max(start - k, 0),
    with k = timesteps / steps; for 50 steps of 1000, k is 20.
    """

    schedule: NoiseSchedule
    steps: int = 50

    @property
    def starts(self) -> torch.Tensor:
        """Timesteps, int64 [steps], ascending."""
        skip = self.schedule.timesteps // self.steps
        return torch.arange(1, self.steps + 1) * skip - 1

    @property
    def ends(self) -> torch.Tensor:
        """Timesteps, int64 [steps]."""
        return (self.starts - self.schedule.timesteps // self.steps).clamp(min=0)

    def step(self, denoised: torch.Tensor, noise: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """x at timesteps ``end`` [n] from the estimates of x_0 and of the noise [n, ...]."""
        alpha, sigma = self.schedule.coefficients(end, denoised)
        return alpha * denoised + sigma * noise


def guidance_embedding(guidance: torch.Tensor, width: int) -> torch.Tensor:
    """Sines and cosines of 1000 w for guidance weights w [n], float32 [n, width].

    w = 0 is no guidance: pipelines give their ``guidance_scale`` - 1.
    """
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=guidance.device) / (half - 1)
    frequencies = torch.exp(-math.log(10000.0) * exponents)
    angles = 1000.0 * guidance.float()[:, None] * frequencies[None]
    embedded = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.nn.functional.pad(embedded, (0, width - 2 * half))


def pseudo_huber(prediction: torch.Tensor, target: torch.Tensor, c: float) -> torch.Tensor:
    """Mean of sqrt(d² + c²) - c: quadratic below c, absolute above (Song and Dhariwal, 2023)."""
    difference = prediction.float() - target.float()
    return ((difference**2 + c**2).sqrt() - c).mean()
