"""Whether a U-Net's configuration fits those of the text encoders and the VAE beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgefusion.models.config_file import is_count
from edgefusion.models.networks.autoencoder import check_own_size, check_scaling
from edgefusion.models.networks.unet import ELSEWHERE, ConditionalUNet, context_width

if TYPE_CHECKING:
    from edgefusion.models.families.family import Configs

_HIDDEN_SIZE = 512
"""CLIP's, where its configuration states none."""


def check_together(configs: Configs, component: str, encoders: Sequence[str]) -> None:
    """Raises InputError unless ``component``, a U-Net or a VAE, fits those beside it."""
    if component == "unet":
        _check_channels(configs)
        _check_context(configs, encoders)
    elif component in ("vae_encoder", "vae_decoder"):
        _check_vae(configs, component)


def _check_channels(configs: Configs) -> None:
    """Raises InputError unless the U-Net takes latents of the VAE's channels alone, and makes as
    many."""
    unet, kind = configs.of("unet"), configs.components["unet"].kind
    assert isinstance(kind, ConditionalUNet)
    taken, made = unet.values.get("in_channels", 4), unet.values.get("out_channels", 4)
    latent = made
    if "vae_decoder" in configs.components:
        latent = configs.of("vae_decoder").values.get("latent_channels", 4)
    if made != latent and is_count(made) and kind.channels(made) == taken:
        raise unet.error(
            "in_channels",
            f"vae/config.json has latent_channels {latent!r}: the two do not belong together. Take "
            "both from one pipeline.",
            taken,
        )
    if not is_count(latent) or kind.channels(latent) != taken:
        if kind.inpaints:
            why = f"expected {kind.channels(latent)}: the latent, a mask, and the latent of what "
            why += "is left of the picture. Take the U-Net of an inpainting model."
        else:
            why = f"expected {latent!r}, the channels of the latent: the others would be a "
            why += f"mask or an image (inpainting, image editing, upscaling). {ELSEWHERE}"
        raise unet.error("in_channels", why, taken)
    if made != latent:
        raise unet.error(
            "out_channels",
            f"expected {latent!r}, as many as the latent has: it predicts more than the noise "
            "(such as a variance), which the scheduler here does not take. Take another U-Net.",
            made,
        )


def _check_context(configs: Configs, encoders: Sequence[str]) -> None:
    """Raises InputError unless the ``encoders``' widths, one after another, are the U-Net's."""
    if not all(name in configs.components for name in encoders):
        return
    unet = configs.of("unet")
    width = context_width(unet.values)
    widths = [configs.of(name).values.get("hidden_size", _HIDDEN_SIZE) for name in encoders]
    if sum(widths) != width:
        key = "cross_attention_dim" if unet.values.get("encoder_hid_dim") is None else None
        stated = " and ".join(
            f"{configs.components[name].folder}/config.json has hidden_size {each!r}"
            for name, each in zip(encoders, widths, strict=True)
        )
        makers = "this text encoder makes" if len(encoders) == 1 else "these text encoders make"
        raise unet.error(
            key or "encoder_hid_dim",
            f"{stated}: the U-Net does not take what {makers}. Take both from one pipeline.",
            width,
        )


def _check_vae(configs: Configs, component: str) -> None:
    """Raises InputError for a VAE whose latents are more than scaled; one that stands alone has to
    say the size of its images."""
    vae = configs.of(component)
    if "unet" in configs.components:
        check_scaling(vae)
    else:
        check_own_size(vae)
