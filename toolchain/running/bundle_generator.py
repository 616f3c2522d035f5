"""A bundle as a drawer of images: the NPU's programs, or ONNX Runtime, prompt after prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.models.guidance import guided, negative_ids
from edgefusion.models.text_to_image import Network, generate
from edgefusion.models.tokenization import ids_of
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.running.execution import (
    npu_network,
    pipeline_of,
    prompt_reader,
    reference_network,
    require_calibrated,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from edgefusion.compiler.bundle.bundle import Bundle

Draw = Callable[[Sequence[str], Sequence[int]], Sequence["Image"]]


def bundle_generator(
    given: Bundle | Path,
    steps: int,
    *,
    guidance: float | None = None,
    negative_prompt: str | None = None,
    reference: bool = False,
    host: str = "tvm",
    say: Say,
) -> Draw:
    """Draws with a bundle, open or at a path, in ``steps``, guided as it was compiled unless told;
    its networks stay loaded.

    Raises InputError for a bundle that has not all networks, or no calibration, UsageError for
    guidance that it was not compiled for.
    """
    from PIL import Image

    from edgefusion.compiler.bundle.bundle import Bundle as Opened

    bundle = Opened.open(given) if isinstance(given, Path) else given
    config, sampling = pipeline_of(bundle)
    sampling = guided(sampling, guidance, negative_prompt)
    if not reference:
        require_calibrated(bundle, *sampling.family.components)
    read = prompt_reader(bundle, config, say)

    @cache
    def network(name: str) -> Network:
        return (
            reference_network(bundle, name) if reference else npu_network(bundle, name, host=host)
        )

    def draw(prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        negative = negative_ids(sampling, read, negative_prompt)
        made = [
            generate(
                network,
                sampling,
                ids_of(read(prompt)),
                negative=negative,
                seed=seed,
                steps=steps,
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return [Image.fromarray(generation.image) for generation in made]

    return draw
