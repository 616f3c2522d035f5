"""Grids of images by teacher, student and the student's average: a row each and number of steps,
a column a prompt, the same noise for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from edgefusion.models.image_grid import image_grid
from edgefusion.models.training.draws import Draws
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.files import disk_errors, replacing

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.training.encoders import Encoders
    from edgefusion.models.training.sampling import Sampler
    from edgefusion.models.training.settings import Validation


@dataclass(frozen=True, slots=True)
class GridOfUNets:
    """Draws the grid of a number of training steps as ``folder``/step-00001000.png.

    ``rows`` are networks and how they are sampled, by name; ``ids`` the prompts' tokens
    [prompts, tokens].
    """

    rows: Mapping[str, tuple[nn.Module, Sampler]]
    encoders: Encoders
    ids: torch.Tensor
    latent_shape: tuple[int, int, int]
    settings: Validation
    folder: Path

    def __call__(self, step: int) -> None:
        """Write the grid. Networks are left in evaluation mode."""
        device = self.encoders.null.device
        with torch.no_grad():
            context = self.encoders.encode(self.ids.to(device))
            null = self.encoders.null_context(len(context))
            rows = {}
            for name, (network, sampler) in self.rows.items():
                network.eval()
                for steps in self.settings.steps:
                    latents = sampler.sample(
                        network, context, null, self.latent_shape, steps, self.settings.seed
                    )
                    rows[f"{name}, {steps} step{'s' if steps > 1 else ''}"] = _decoded(
                        self.encoders.codec, latents
                    )
        write_grid(rows, self.folder / f"step-{step:08d}.png")


@dataclass(frozen=True, slots=True)
class GridOfDecoders:
    """As ``GridOfUNets``, for decoders of unscaled latents, beside the images ``pixels``."""

    rows: Mapping[str, nn.Module]
    encoders: Encoders
    pixels: torch.Tensor
    folder: Path

    def __call__(self, step: int) -> None:
        """Write the grid. Networks are left in evaluation mode."""
        rows = {"image": self.pixels}
        codec = self.encoders.codec
        device = self.encoders.null.device
        batch = {"pixels": self.pixels.to(device)}
        latents = self.encoders.latents(batch, Draws(seed=0, batch=0, device=device))
        with torch.no_grad():
            for name, network in self.rows.items():
                network.eval()
                parameter = next(network.parameters())
                unscaled = (latents / codec.scaling_factor).to(parameter.dtype)
                rows[name] = network(unscaled).float().cpu()
        write_grid(rows, self.folder / f"step-{step:08d}.png")


def write_grid(rows: Mapping[str, torch.Tensor], path: Path) -> None:
    """A PNG of images [n, 3, h, w] in [-1, 1], a labelled row each entry; it appears whole."""
    cells = [[Image.fromarray(pixels) for pixels in _as_bytes(images)] for images in rows.values()]
    with replacing((path,), Kind.PNG) as (partial,), disk_errors(path):
        image_grid(cells, labels=list(rows)).save(partial, "PNG")


def _decoded(codec: Any, latents: torch.Tensor) -> torch.Tensor:
    parameter = next(iter(codec.parameters()), latents)
    images: torch.Tensor = codec.decode(latents.to(parameter.dtype))
    return images.float().cpu()


def _as_bytes(images: torch.Tensor) -> Sequence[Any]:
    scaled = (images.clamp(-1, 1) + 1) * 127.5
    return list(scaled.round().permute(0, 2, 3, 1).numpy().astype(np.uint8))
