"""The size of pictures, chosen in pixels, as that of the latent that networks are compiled for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgefusion.models.folder_index import read_index
from edgefusion.models.networks.kind import halvings
from edgefusion.runtime.errors import UsageError

if TYPE_CHECKING:
    from edgefusion.models.families.family import Part
    from edgefusion.models.source import Source

_USUAL_HALVINGS = 3
"""Of a VAE, where the pipeline has none: 8 pixels on a side are one of the latent."""


def chosen_latent(source: Source, height: int | None, width: int | None) -> tuple[int, int] | None:
    """The latent's (height, width) for pictures of so many pixels; the pipeline's own side where
    one of the two is None, and None where both are.

    Raises UsageError for sides that the VAE and the U-Net cannot halve as often as they do, and for
    a source whose shapes are its own.
    """
    if height is None and width is None:
        return None
    family = source.family
    if source.kind == "onnx" or family.denoiser.component not in source.components:
        raise UsageError(
            f"--height and --width were given with {source.name}, which is no pipeline with a "
            "U-Net; expected one. The sizes of an .onnx file are set with --shape."
        )
    factor = 2 ** _halvings(source, family.decoder, _USUAL_HALVINGS)
    unet = 2 ** _halvings(source, family.denoiser, 0)
    for name, side in (("height", height), ("width", width)):
        if side is not None and (side < 1 or side % (factor * unet)):
            raise UsageError(
                f"--{name} is {side}; expected a multiple of {factor * unet} pixels: {factor} of "
                f"the image are one of the VAE's latent, whose sides the U-Net divides by {unet}."
            )
    own_height, own_width = _own_latent(source)
    return (
        own_height if height is None else height // factor,
        own_width if width is None else width // factor,
    )


def _halvings(source: Source, part: Part, usual: int) -> int:
    if part.component not in source.components:
        return usual
    if source.architecture is not None:
        network: Any = source.architecture.networks[part.component]
        return len(network.channels) - 1
    assert source.path is not None
    return halvings(read_index(source.path).configs.of(part.component), part.kind.usual_levels)


def _own_latent(source: Source) -> tuple[int, int]:
    component = source.family.denoiser.component
    if source.architecture is not None:
        network: Any = source.architecture.networks[component]
        return (network.latent_size, network.latent_size)
    latent = source.sizes.latent
    if latent is None:
        raise UsageError(
            f"{source.name} states no sample_size of its U-Net; give --height and --width both."
        )
    return latent
