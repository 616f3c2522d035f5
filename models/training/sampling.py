"""Latents by a U-Net in few steps, to look at while it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from edgefusion.compiler.bundle.deployment import LCM
from edgefusion.models.noise_scheduler import STABLE_DIFFUSION_SCHEDULE, NoiseScheduler
from edgefusion.models.training.consistency import guidance_embedding


@dataclass(frozen=True, slots=True)
class Sampler:
    """``consistency``: by LCMScheduler, for students of latent-consistency distillation; else by
    DDIM. ``scheduler`` is a scheduler_config.json over Stable Diffusion v1's."""

    scheduler: Mapping[str, Any]
    consistency: bool
    guidance_scale: float = 7.5
    """1 is none. Given as an embedding to a U-Net that takes one; else it costs a second
    evaluation a step, without caption."""

    @torch.no_grad()
    def sample(
        self,
        network: Any,
        context: torch.Tensor,
        null_context: torch.Tensor,
        latent_shape: tuple[int, int, int],
        steps: int,
        seed: int,
    ) -> torch.Tensor:
        """Latents [n, *latent_shape], float32, for contexts [n, tokens, width].

        Sample ``i`` begins with noise of ``seed`` + i, so that networks can be compared.
        """
        count, device = len(context), context.device
        generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
        noise = torch.cat([torch.randn((1, *latent_shape), generator=g) for g in generators])
        scheduler: Any
        if self.consistency:
            scheduler = NoiseScheduler(LCM, self.scheduler).make()
            scheduler.set_timesteps(steps, device)
        else:
            scheduler = _ddim(self.scheduler)
            scheduler.set_timesteps(steps, device)
        sample = noise.to(device) * float(scheduler.init_noise_sigma)
        width = network.config["time_cond_proj_dim"]
        embedding = None
        if width is not None:
            weight = torch.full((count,), self.guidance_scale - 1.0, device=device)
            embedding = guidance_embedding(weight, width)
        two = width is None and self.guidance_scale != 1.0
        contexts = torch.cat([context, null_context]) if two else context
        dtype = next(network.parameters()).dtype
        for t in scheduler.timesteps:
            given = torch.cat([sample, sample]) if two else sample
            predicted = network(
                given.to(dtype),
                t,
                contexts.to(dtype),
                timestep_cond=None if embedding is None else embedding.to(dtype),
                return_dict=False,
            )[0].float()
            if two:
                with_caption, without = predicted.chunk(2)
                predicted = without + self.guidance_scale * (with_caption - without)
            extra = {"generator": generators} if self.consistency else {}
            sample = scheduler.step(predicted, t, sample, return_dict=False, **extra)
            # LCMScheduler gives the noised sample and the estimate of the clean one.
            last = t == scheduler.timesteps[-1]
            sample = sample[1] if self.consistency and last else sample[0]
        return sample


def _ddim(config: Mapping[str, Any]) -> Any:
    """DDIM that begins at the last timestep, as few steps must."""
    from diffusers import DDIMScheduler

    own = {key: value for key, value in config.items() if not key.startswith("_")}
    return DDIMScheduler.from_config(
        {**STABLE_DIFFUSION_SCHEDULE, **own, "timestep_spacing": "trailing"}
    )
