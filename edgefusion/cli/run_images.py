"""Images for ``edgefusion run``: one prompt, or the prompts of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.models.text_to_image import Network
    from edgefusion.toolchain.running.drawing import Drawing, Wishes

SCHEMA_VERSION = 1


def network(bundle: Bundle, component: str, reference: bool, host: str, say: Say) -> Network:
    """A component on the NPU, or in ONNX Runtime as a ``reference``."""
    from edgefusion.toolchain.running.execution import npu_network, reference_network

    if reference:
        return reference_network(bundle, component)
    return npu_network(bundle, component, say=say, host=host)


def numbered(output: Path, count: int) -> tuple[Path, ...]:
    """``out-1.png`` and so on for ``out.png``, with as many digits as the last number has."""
    digits = len(str(count))
    return tuple(output.with_stem(f"{output.stem}-{n:0{digits}d}") for n in range(1, count + 1))


@dataclass(slots=True)
class Easel:
    """A bundle set up to paint as ``wishes`` say; ``stage`` says which prompt and step it is at."""

    ready: Drawing
    wishes: Wishes
    make: Callable[[str, Say], Network]
    details: dict[str, Any]
    say: Say
    stage: str = ""

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        seed: int,
        wishes: Wishes,
        reference: bool,
        host: str,
        say: Say,
    ) -> Easel:
        """Raises what ``drawing`` does."""
        from edgefusion.toolchain.running.drawing import drawing

        ready = drawing(bundle, wishes, reference=reference, say=say)
        sampling = ready.sampling
        executed_by = "onnxruntime" if reference else "npu"
        return cls(
            ready,
            wishes,
            lambda name, detail: network(bundle, name, reference, host, detail),
            {
                "seed": seed,
                "steps": wishes.steps,
                "guidance": sampling.guidance.scale if sampling.guidance else None,
                "negative_prompt": wishes.negative,
                "strength": sampling.scheduler.strength,
                "control_scale": sampling.control_scale,
                "pictures": {name: str(path) for name, path in wishes.pictures.items() if path},
                "executed_by": executed_by,
            },
            say,
        )

    def paint(self, prompt: str, output: Path) -> dict[str, Any]:
        """Write the image of one prompt; its record."""
        return self._paint(prompt, output, self._made, "")

    def paint_all(
        self, prompts: Sequence[str], files: Sequence[Path], grid: Path | None
    ) -> tuple[dict[str, Any], InputError | None]:
        """Write images to ``files`` as they are made, and a ``grid`` of them where one is wanted.

        The record, and what to raise at the end for prompts whose values overflow.
        """
        keep = cache(self._made)  # networks load once for all prompts
        images, failed, errors = [], [], []
        for number, (prompt, file) in enumerate(zip(prompts, files, strict=True), 1):
            where = f"prompt {number} of {len(prompts)}; "
            try:
                images.append({"number": number, **self._paint(prompt, file, keep, where)})
            except InputError as error:
                failed.append({"number": number, "prompt": prompt, "error": str(error)})
                errors.append(error)
                self.say(f"warning: prompt {number} failed: {error}")
        if grid and images:
            _write_grid(grid, {i["number"]: Path(i["image"]) for i in images}, len(prompts))
        document = {
            "schema_version": SCHEMA_VERSION,
            "summary": f"{len(images)} of {len(prompts)} images, numbered; "
            f"{self.details['steps']} steps, seed {self.details['seed']}",
            "grid": str(grid) if grid and images else None,
            "images": images,
            "failed": failed,
        }
        return document, _failure(failed, errors, len(prompts))

    def _made(self, component: str) -> Network:
        return self.make(component, lambda text: self.say(f"{self.stage}; {text}"))

    def _paint(
        self, prompt: str, output: Path, make: Callable[[str], Network], where: str
    ) -> dict[str, Any]:
        from PIL import Image

        from edgefusion.models.guidance import negative_ids
        from edgefusion.models.text_to_image import generate
        from edgefusion.models.tokenization import ids_of
        from edgefusion.runtime.files import disk_errors, replacing

        def enter(text: str) -> None:
            self.stage = where + text
            self.say(self.stage)

        tokens = self.ready.read(prompt)
        longest = max(tokens.values(), key=lambda each: each.dropped)
        if longest.dropped:
            self.say(
                f"warning: {where}the prompt is {longest.dropped} tokens longer than the "
                f"{longest.ids.size} that the text encoder takes (marks of its begin and end among "
                "them); its end is left out"
            )
        seed, steps = self.details["seed"], self.details["steps"]
        ids = ids_of(tokens)
        sampling, read = self.ready.sampling, self.ready.read
        made = generate(
            make,
            sampling,
            ids,
            negative=negative_ids(sampling, read, self.wishes.negative),
            pictures=self.ready.pictures,
            seed=seed,
            steps=steps,
            say=enter,
        )
        with replacing((output,), Kind.PNG) as (partial,), disk_errors(output):
            Image.fromarray(made.image).save(partial, format="PNG")
        height, width = made.image.shape[:2]
        return {
            "schema_version": SCHEMA_VERSION,
            "summary": f"{width} x {height} pixels, {steps} steps, seed {seed}",
            "image": str(output),
            "width_pixels": width,
            "height_pixels": height,
            "prompt": prompt,
            "dropped_tokens": longest.dropped,
            "timesteps": [step.timestep for step in made.steps],
            **self.details,
        }


def _failure(
    failed: Sequence[dict[str, Any]], errors: Sequence[InputError], count: int
) -> InputError | None:
    if not failed:
        return None
    others = f" (and of {len(failed) - 1} more)" if len(failed) > 1 else ""
    first = failed[0]
    made = InputError(
        f"{count - len(failed)} of {count} images were made; that of prompt {first['number']}, "
        f"'{first['prompt']}', was not{others}: {first['error']}"
    )
    made.__cause__ = errors[0]
    return made


def _write_grid(output: Path, images: dict[int, Path], count: int) -> None:
    """Images by number from left to right and down; black where one is missing."""
    from PIL import Image

    from edgefusion.models.image_grid import image_grid
    from edgefusion.runtime.files import disk_errors, replacing

    columns = ceil(sqrt(count))
    cells: list[Image.Image | None] = [None] * count
    for number, path in images.items():
        with Image.open(path) as image:
            cells[number - 1] = image.copy()
    rows = [cells[first : first + columns] for first in range(0, count, columns)]
    with replacing((output,), Kind.PNG) as (partial,), disk_errors(output):
        image_grid(rows, background="black").save(partial, format="PNG")
