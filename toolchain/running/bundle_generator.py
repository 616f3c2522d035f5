"""A bundle as a drawer of images: the NPU's programs, or ONNX Runtime, prompt after prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.models.guidance import negative_ids
from edgefusion.models.text_to_image import Network, generate
from edgefusion.models.tokenization import ids_of
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.running.drawing import Wishes, drawing
from edgefusion.toolchain.running.execution import npu_network, reference_network

if TYPE_CHECKING:
    from PIL.Image import Image

    from edgefusion.compiler.bundle.bundle import Bundle

Draw = Callable[[Sequence[str], Sequence[int]], Sequence["Image"]]


def bundle_generator(
    given: Bundle | Path, wishes: Wishes, *, reference: bool = False, host: str = "tvm", say: Say
) -> Draw:
    """Draws with a bundle, open or at a path, as ``wishes`` say; its networks stay loaded.

    Raises what ``drawing`` does.
    """
    from PIL import Image

    from edgefusion.compiler.bundle.bundle import Bundle as Opened

    bundle = Opened.open(given) if isinstance(given, Path) else given
    ready = drawing(bundle, wishes, reference=reference, say=say)

    @cache
    def network(name: str) -> Network:
        return (
            reference_network(bundle, name) if reference else npu_network(bundle, name, host=host)
        )

    def draw(prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        negative = negative_ids(ready.sampling, ready.read, wishes.negative)
        made = [
            generate(
                network,
                ready.sampling,
                ids_of(ready.read(prompt)),
                negative=negative,
                pictures=ready.pictures,
                seed=seed,
                steps=wishes.steps,
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return [Image.fromarray(generation.image) for generation in made]

    return draw
