"""Forward diffusion and what a network's prediction says of the clean latent and the noise.

Notation: alpha and sigma are the square roots of the cumulative product and of its complement;
x_t = alpha x_0 + sigma noise. Sources: Ho et al. (2020); v-prediction: Salimans and Ho (2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgefusion.models.noise_scheduler import STABLE_DIFFUSION_SCHEDULE
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    import torch

Prediction = Literal["epsilon", "v_prediction", "sample"]


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """``alphas_cumprod``, float32 [timesteps], on the CPU, and what networks predict."""

    alphas_cumprod: torch.Tensor
    prediction: Prediction

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """From a scheduler_config.json over Stable Diffusion v1's. Raises InputError for one that
        gives no schedule."""
        from diffusers import DDPMScheduler

        merged = {**STABLE_DIFFUSION_SCHEDULE, **config}
        try:
            scheduler = DDPMScheduler(
                **{key: merged[key] for key in _SCHEDULE_KEYS if merged.get(key) is not None}
            )
        except (ValueError, TypeError, NotImplementedError) as error:
            raise InputError(f"the scheduler's configuration gives no schedule: {error}") from error
        prediction = merged["prediction_type"]
        if prediction not in ("epsilon", "v_prediction", "sample"):
            raise InputError(
                f"the scheduler's prediction_type is {prediction!r}; expected epsilon, "
                "v_prediction or sample. Correct scheduler_config.json."
            )
        return cls(scheduler.alphas_cumprod, prediction)

    @property
    def timesteps(self) -> int:
        """How many there are."""
        return len(self.alphas_cumprod)

    def coefficients(
        self, t: torch.Tensor, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """alpha and sigma at timesteps ``t`` [n], float32, shaped to scale ``like`` [n, ...]."""
        cumulative = self.alphas_cumprod.to(t.device)[t]
        shape = (-1, *[1] * (like.dim() - 1))
        return cumulative.sqrt().view(shape), (1 - cumulative).sqrt().view(shape)

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t of ``clean`` x_0."""
        alpha, sigma = self.coefficients(t, clean)
        return alpha * clean + sigma * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What a perfect network predicts."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return clean
        alpha, sigma = self.coefficients(t, clean)
        return alpha * noise - sigma * clean

    def denoised(
        self, predicted: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor
    ) -> torch.Tensor:
        """The estimate of x_0 that a prediction at x_t implies, float32."""
        predicted, noisy = predicted.float(), noisy.float()
        if self.prediction == "sample":
            return predicted
        alpha, sigma = self.coefficients(t, noisy)
        if self.prediction == "epsilon":
            return (noisy - sigma * predicted) / alpha
        return alpha * noisy - sigma * predicted

    def noise(self, predicted: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The noise that a prediction at x_t implies, float32."""
        predicted, noisy = predicted.float(), noisy.float()
        if self.prediction == "epsilon":
            return predicted
        alpha, sigma = self.coefficients(t, noisy)
        if self.prediction == "sample":
            return (noisy - alpha * predicted) / sigma
        return alpha * predicted + sigma * noisy


_SCHEDULE_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)
