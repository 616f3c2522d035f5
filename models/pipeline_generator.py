"""Images by any text-to-image pipeline of diffusers, from a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefusion.models.checkpoint import as_input_error
from edgefusion.models.local_weights import default_device, from_local_folder
from edgefusion.models.text_to_image import seeded_generator
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class PipelineGenerator:
    """A loaded pipeline and how it is called. Noise depends on each image's seed alone, and is
    drawn on the CPU, so that other hardware begins with the same."""

    pipeline: Any
    steps: int
    guidance: float
    size_pixels: int | None = None

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Image.Image]:
        """An RGB image for each prompt."""
        size = {"height": self.size_pixels, "width": self.size_pixels} if self.size_pixels else {}
        with as_input_error(type(self.pipeline).__name__):
            made: list[Image.Image] = self.pipeline(
                prompt=list(prompts),
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                generator=[seeded_generator(seed) for seed in seeds],
                **size,
            ).images
        return [image.convert("RGB") for image in made]


def pipeline_generator(
    folder: Path | str, *, steps: int, guidance: float, size_pixels: int | None = None
) -> PipelineGenerator:
    """The pipeline in a local folder, in float16 on the GPU where there is one, else in float32.

    Its safety checker is left out: it replaces images by black ones. Raises InputError for a folder
    that is no text-to-image pipeline.
    """
    import torch
    from diffusers import DiffusionPipeline

    device = default_device()
    dtype = torch.float16 if device == "cuda" else torch.float32
    pipeline = from_local_folder(DiffusionPipeline.from_pretrained, folder, torch_dtype=dtype)
    if not callable(pipeline) or "num_inference_steps" not in _parameters(pipeline):
        raise InputError(
            f"{folder} holds a {type(pipeline).__name__}; expected a text-to-image one."
        )
    if getattr(pipeline, "safety_checker", None) is not None:
        pipeline.safety_checker = None
    pipeline.set_progress_bar_config(disable=True)
    return PipelineGenerator(pipeline.to(device), steps, guidance, size_pixels)


def _parameters(pipeline: Any) -> set[str]:
    from inspect import signature

    return set(signature(pipeline.__call__).parameters)
