"""The size of pictures, chosen in pixels, as that of the latent that networks are compiled for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgefusion.models.networks.autoencoder import FACTOR
from edgefusion.runtime.errors import UsageError

if TYPE_CHECKING:
    from edgefusion.models.families.family import Part
    from edgefusion.models.source import Source


def chosen_latent(source: Source, height: int | None, width: int | None) -> tuple[int, int] | None:
    """The latent's (height, width) for pictures of so many pixels; the pipeline's own side where
    one of the two is None, and None where both are.

    Raises UsageError for sides that the VAE and the denoiser cannot divide as they do, and for a
    source whose shapes are its own.
    """
    if height is None and width is None:
        return None
    family = source.family
    if source.kind == "onnx" or family.denoiser.component not in source.components:
        raise UsageError(
            f"--height and --width were given with {source.name}, which is no pipeline with a "
            "denoiser; expected one. The sizes of an .onnx file are set with --shape."
        )
    factor = _divisor(source, family.decoder, FACTOR)
    inner = _divisor(source, family.denoiser, 1)
    title = family.denoiser.kind.title
    for name, side in (("height", height), ("width", width)):
        if side is not None and (side < 1 or side % (factor * inner)):
            raise UsageError(
                f"--{name} is {side}; expected a multiple of {factor * inner} pixels: {factor} of "
                f"the image are one of the VAE's latent, whose sides the {title} divides by "
                f"{inner}."
            )
    own_height, own_width = _own_latent(source)
    return (
        own_height if height is None else height // factor,
        own_width if width is None else width // factor,
    )


def pixels(source: Source) -> tuple[int, int]:
    """(height, width) of the pictures of a pipeline. Raises UsageError where nothing states it."""
    factor = _divisor(source, source.family.decoder, FACTOR)
    height, width = source.deployment.latent or _own_latent(source)
    return height * factor, width * factor


def _divisor(source: Source, part: Part, usual: int) -> int:
    """What a component has the sides of its picture divided by; ``usual`` where it is not there."""
    if part.component not in source.components:
        return usual
    if source.architecture is not None:
        return source.architecture.networks[part.component].divisor
    assert source.index is not None
    return part.kind.divisor(source.index.configs.of(part.component))


def _own_latent(source: Source) -> tuple[int, int]:
    component = source.family.denoiser.component
    if source.architecture is not None:
        network: Any = source.architecture.networks[component]
        return (network.latent_size, network.latent_size)
    latent = source.sizes.latent
    if latent is None:
        title = source.family.denoiser.kind.title
        raise UsageError(
            f"{source.name} states no sample_size of its {title}; give --height and --width both."
        )
    return latent
