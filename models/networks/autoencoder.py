"""The halves of an autoencoder: latent to image, and image to latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgefusion.models.config_file import is_number, pair
from edgefusion.models.networks.kind import NetworkKind, Port, Signature, Sizes, halvings

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.config_file import ConfigFile

FACTOR = 8
"""Pixels on a side of an image for one of the latent, where a denoiser is told its image's size."""
_IMAGE_CHANNELS = 3
_MORE_THAN_DIVISION = ("shift_factor", "latents_mean", "latents_std")


class KlDecoder(NetworkKind):
    """``latent`` [N, c, h, w], divided by the VAE's scaling factor -> ``image`` [N, 3, 8h, 8w]."""

    class_name: ClassVar[str] = "AutoencoderKL"
    library: ClassVar[Literal["diffusers", "transformers"]] = "diffusers"

    def check(self, config: ConfigFile) -> None:
        """See the base class."""
        if config.values.get("out_channels", _IMAGE_CHANNELS) != _IMAGE_CHANNELS:
            raise config.error(
                "out_channels",
                f"expected {_IMAGE_CHANNELS}, red, green and blue. Take another VAE.",
            )

    def part(self, module: nn.Module) -> nn.Module:
        """See the base class."""
        from edgefusion.models.graph_modules import VaeDecoder

        return VaeDecoder(module)

    def graph(self, part: nn.Module) -> nn.Module:
        """See the base class."""
        return part

    def signature(self, config: Any, sizes: Sizes, batch: int = 1) -> Signature:
        """See the base class."""
        factor = downscaling(config)
        latent = sizes.latent or tuple(side // factor for side in self.own_size(config))
        image = (batch, config.out_channels, *(factor * side for side in latent))
        return Signature(
            (Port("latent", (batch, config.latent_channels, *latent)),), (Port("image", image),)
        )

    def exported_name(self, port: str, _config: Any, /) -> str:
        """See the base class."""
        return {"latent": "latent_sample", "image": "sample"}[port]


class TinyDecoder(KlDecoder):
    """TAESD's decoder: ``latent`` [N, c, h, w], as the denoiser makes it (its scaling factor is 1)
    -> ``image`` [N, 3, 8h, 8w] in about [-1, 1]."""

    class_name: ClassVar[str] = "AutoencoderTiny"
    usual_levels: ClassVar[int] = 4

    def check(self, config: ConfigFile) -> None:
        """See the base class."""
        super().check(config)
        if config.values.get("upsampling_scaling_factor", 2) != 2:
            raise config.error("upsampling_scaling_factor", "expected 2: each level doubles.")


class KlEncoder(KlDecoder):
    """``image`` [N, 3, 8h, 8w] in [-1, 1] -> ``moments`` [N, 2c, h, w]: mean, and logarithm of the
    variance, of the latent before it is multiplied by the VAE's scaling factor."""

    made: ClassVar[str] = "moments"
    per_channel: ClassVar[int] = 2
    """Numbers that are made for one of the latent."""

    def check(self, config: ConfigFile) -> None:
        """See the base class."""
        super().check(config)
        if config.values.get("in_channels", _IMAGE_CHANNELS) != _IMAGE_CHANNELS:
            raise config.error(
                "in_channels",
                f"expected {_IMAGE_CHANNELS}, red, green and blue. Take another VAE.",
            )

    def part(self, module: nn.Module) -> nn.Module:
        """See the base class."""
        from edgefusion.models.graph_modules import VaeEncoder

        return VaeEncoder(module)

    def signature(self, config: Any, sizes: Sizes, batch: int = 1) -> Signature:
        """See the base class."""
        decoder = super().signature(config, sizes, batch)
        (latent,), (image,) = decoder.inputs, decoder.outputs
        made = (batch, self.per_channel * config.latent_channels, *latent.shape[2:])
        taken = (batch, config.in_channels, *image.shape[2:])
        return Signature((Port("image", taken),), (Port(self.made, made),))

    def exported_name(self, port: str, _config: Any, /) -> str:
        """See the base class."""
        return "sample" if port == "image" else "latent_parameters"


class TinyEncoder(KlEncoder, TinyDecoder):
    """TAESD's encoder: ``image`` [N, 3, 8h, 8w] in [-1, 1] -> ``latent`` [N, c, h, w], as the
    denoiser takes it."""

    class_name: ClassVar[str] = "AutoencoderTiny"
    made: ClassVar[str] = "latent"
    per_channel: ClassVar[int] = 1


def downscaling(config: Any) -> int:
    """Pixels of an image that are one of a VAE's latent, on a side."""
    return int(2 ** (len(config.block_out_channels) - 1))


def check_factor(config: ConfigFile) -> None:
    """Raises InputError unless so many pixels are one of the latent as a denoiser counts that is
    told its image's size."""
    if 2 ** halvings(config, KlDecoder.usual_levels) != FACTOR:
        raise config.error(
            "block_out_channels",
            f"expected four levels, so that {FACTOR} pixels are one of the latent. Take the VAE of "
            "the pipeline that the denoiser is of.",
        )


def check_scaling(config: ConfigFile, *, shifted: bool = False) -> None:
    """Raises InputError for a decoder whose latents are made of a denoiser's by more than division
    by one positive number, and, if ``shifted``, adding another."""
    scaling = config.values.get("scaling_factor", 1.0)
    if not is_number(scaling) or scaling <= 0:
        raise config.error(
            "scaling_factor",
            "expected a positive number, which latents are divided by. Correct it, or "
            "download the VAE again.",
            scaling,
        )
    shift = config.values.get("shift_factor") or 0.0
    if shifted and not is_number(shift):
        raise config.error("shift_factor", "expected a number, which is added to latents.", shift)
    for key in ("latents_mean", "latents_std") if shifted else _MORE_THAN_DIVISION:
        if config.values.get(key) not in (None, 0):
            raise config.error(
                key,
                "expected null: latents are only divided by scaling_factor before they are "
                "decoded. Stable Diffusion's pipelines ignore this key: set it to null if this "
                "is one of them; others apply it, and are not supported.",
            )


def check_own_size(config: ConfigFile) -> None:
    """Raises InputError unless a decoder that stands alone says the size of its images."""
    if pair(config.values.get("sample_size", 32)) is None:
        raise config.error(
            "sample_size",
            "expected one whole number or a pair [height, width], the image's size in pixels, "
            "for there is no U-Net beside that says the latent's. Set it and try again.",
        )
