"""What is asked of a bundle that draws, checked against what it was compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from edgefusion.models.guidance import guided
from edgefusion.models.pictures import check_pictures, picture_size, read_pictures
from edgefusion.models.strength import check_control_scale, check_strength
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.running.execution import (
    pipeline_of,
    prompt_reader,
    require_calibrated,
)
from edgefusion.toolchain.running.ports import input_shapes

if TYPE_CHECKING:
    from PIL.Image import Image

    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.models.text_to_image import Sampling
    from edgefusion.models.tokenization import PromptReader

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Wishes:
    """Denoising steps, guidance and what it goes away from, pictures by name (None for those that
    are not given), how much of the noise schedule is run from them, and how much one that is
    followed counts; the bundle's own for None."""

    steps: int
    guidance: float | None = None
    negative: str | None = None
    pictures: Mapping[str, Path | Image | None] = field(default_factory=dict)
    strength: float | None = None
    control_scale: float | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """A bundle ready to draw: ``pictures`` are as its networks are given them."""

    sampling: Sampling
    read: PromptReader
    pictures: Mapping[str, Array]


def drawing(bundle: Bundle, wishes: Wishes, *, reference: bool, say: Say) -> Drawing:
    """``bundle`` as ``wishes`` say, on the NPU, or in ONNX Runtime as a ``reference``.

    Raises InputError for a bundle that makes no images or has no calibration, and for pictures that
    cannot be read or are of another size; UsageError for what it was not compiled for.
    """
    config, sampling = pipeline_of(bundle)
    use = sampling.family.pictures
    check_pictures(use, wishes.pictures, bundle.path.name)
    if wishes.strength is not None:
        check_strength(sampling.family, wishes.strength, bundle.path.name)
        sampling = replace(sampling, scheduler=sampling.scheduler.at(wishes.strength))
    if wishes.control_scale is not None:
        own, name = sampling.control_scale, bundle.path.name
        check_control_scale(sampling.family, wishes.control_scale, name, own)
        sampling = replace(sampling, control_scale=wishes.control_scale)
    sampling.timesteps(wishes.steps)
    sampling = guided(sampling, wishes.guidance, wishes.negative)
    if not reference:
        require_calibrated(bundle, *sampling.family.components)
    files = {name: file for name, file in wishes.pictures.items() if file is not None}
    pictures = read_pictures(use, files, pixels_of(bundle)) if use.given else {}
    return Drawing(sampling, prompt_reader(bundle, config, say), pictures)


def pixels_of(bundle: Bundle) -> tuple[int, int]:
    """(height, width) of the pictures that a bundle takes."""
    shapes = {
        name: shape
        for component in bundle.components
        for name, shape in input_shapes(bundle, component).items()
    }
    size = picture_size(shapes)
    assert size is not None, "the family takes pictures"
    return size
