"""The config.json of each network of a pipeline folder: does it fit this toolchain, and the others?

Looks at JSON alone, before any work. What the U-Net would need beside sample, timestep and context
is refused by the key that asks for it; so are sizes on which two networks disagree.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgefusion.models.folder_index import CLASSES, FOLDERS
from edgefusion.models.pipeline_sizes import (
    CONTEXT_TOKENS,
    is_count,
    longest_prompt,
    pair,
    read_config,
)
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from edgefusion.models.architectures import Component

_IMAGE_CHANNELS = 3
_LEAST_GUIDANCE_WIDTH = 4
_ONNX = (
    "Take a pipeline whose U-Net takes a latent, a timestep and a context alone, or export this "
    "U-Net to ONNX with all of its inputs and compile the .onnx file."
)
_PLAIN: Mapping[str, tuple[tuple[object, ...], str]] = MappingProxyType(
    {
        "addition_embed_type": (
            (None, "text"),
            "it asks for inputs (pooled text, image sizes) that no part here makes, as in SDXL",
        ),
        "attention_type": (("default",), "it asks for grounding inputs, as in GLIGEN"),
        "class_embed_type": ((None,), "it asks for class labels or an image embedding"),
        "dual_cross_attention": ((False, None), "it asks for a second context, of an image"),
        "encoder_hid_dim_type": ((None, "text_proj"), "it asks for an image embedding"),
        "num_class_embeds": ((None,), "it asks for class labels, as upscalers do"),
    }
)
"""Keys of a U-Net: the values that are supported, and why others are not."""


@dataclass(frozen=True, slots=True)
class NetworkConfigs:
    """Configurations of a folder's ``components``: those that are of a known class."""

    folder: Path
    components: Collection[Component]

    def check(self, component: Component) -> list[str]:
        """Remarks on ``component``.

        Raises InputError, naming file and key, if it cannot be compiled, or does not fit another
        of the components.
        """
        config = self._config(component)
        if not config:
            raise InputError(
                f"{self._path(component)} is missing or empty; it says what network the weights "
                "beside it are of. Download the component again."
            )
        if config.get("quantization_config") is not None:
            raise self._error(
                component,
                "quantization_config",
                "its weights are quantized already; expected floating-point ones. Take the "
                "checkpoint that it was made from.",
            )
        if component == "unet":
            self._check_unet(config)
        elif component == "vae_decoder":
            self._check_vae(config)
        else:
            self._check_text_encoder(config)
        return self._unknown_keys(component, config)

    def _unknown_keys(self, component: Component, config: Mapping[str, Any]) -> list[str]:
        """A remark on keys that the network's library does not know."""
        if component == "text_encoder":  # its library's configurations hold keys of all kinds
            return []
        from inspect import signature

        import diffusers

        known = signature(getattr(diffusers, CLASSES[component]).__init__).parameters
        found = sorted(key for key in config if key not in known and not key.startswith("_"))
        if not found:
            return []
        return [f"{self._path(component)}: no meaning is known for {', '.join(found)}"]

    def _check_unet(self, config: Mapping[str, Any]) -> None:
        for key, (supported, why) in _PLAIN.items():
            if key in config and config[key] not in supported:
                names = " or ".join("null" if v is None else str(v) for v in supported)
                raise self._error("unet", key, f"expected {names}: {why}. {_ONNX}")
        if pair(config.get("sample_size")) is None:
            raise self._error(
                "unet",
                "sample_size",
                "expected one whole number or a pair [height, width], the latent's size (64 for "
                "512x512 pixels). Set it and try again.",
            )
        self._check_channels(config)
        if (width := config.get("time_cond_proj_dim")) is not None and (
            not is_count(width) or width < _LEAST_GUIDANCE_WIDTH
        ):
            raise self._error(
                "unet",
                "time_cond_proj_dim",
                f"expected null or a whole number from {_LEAST_GUIDANCE_WIDTH}, the width of the "
                "guidance embedding. Correct it, or download the U-Net again.",
            )
        self._check_context(config)

    def _check_channels(self, config: Mapping[str, Any]) -> None:
        taken, made = config.get("in_channels", 4), config.get("out_channels", 4)
        latent = made
        if "vae_decoder" in self.components:
            latent = self._config("vae_decoder").get("latent_channels", 4)
        if taken != latent:
            if taken == made:
                why = f"vae/config.json has latent_channels {latent!r}: the two do not belong "
                why += "together. Take both from one pipeline."
            else:
                why = f"expected {latent!r}, the channels of the latent: the others would be a "
                why += f"mask or an image (inpainting, image editing, upscaling). {_ONNX}"
            raise self._error("unet", "in_channels", why, taken)
        if made != taken:
            raise self._error(
                "unet",
                "out_channels",
                f"expected {taken!r}, as many as in_channels: it predicts more than the noise "
                "(such as a variance), which the scheduler here does not take. Take another U-Net.",
                made,
            )

    def _check_context(self, config: Mapping[str, Any]) -> None:
        width = context_width(config)
        if width is None:
            raise self._error(
                "unet",
                "cross_attention_dim",
                "expected one whole number, or the same one for each block: there is one context.",
                config.get("cross_attention_dim"),
            )
        if "text_encoder" not in self.components:
            return
        made = self._config("text_encoder").get("hidden_size", 512)
        if made != width:
            key = "cross_attention_dim" if config.get("encoder_hid_dim") is None else None
            raise self._error(
                "unet",
                key or "encoder_hid_dim",
                f"text_encoder/config.json has hidden_size {made!r}: the U-Net does not take what "
                "this text encoder makes. Take both from one pipeline.",
                width,
            )

    def _check_vae(self, config: Mapping[str, Any]) -> None:
        if config.get("out_channels", _IMAGE_CHANNELS) != _IMAGE_CHANNELS:
            raise self._error(
                "vae_decoder",
                "out_channels",
                f"expected {_IMAGE_CHANNELS}, red, green and blue. Take another VAE.",
            )
        if "unet" not in self.components:
            self._check_own_size(config)
            return
        scaling = config.get("scaling_factor", 1.0)
        if not _is_number(scaling) or scaling <= 0:
            raise self._error(
                "vae_decoder",
                "scaling_factor",
                "expected a positive number, which latents are divided by. Correct it, or "
                "download the VAE again.",
            )
        for key in ("shift_factor", "latents_mean", "latents_std"):
            if config.get(key) not in (None, 0):
                raise self._error(
                    "vae_decoder",
                    key,
                    "expected null: latents are only divided by scaling_factor before they are "
                    "decoded. Stable Diffusion's pipelines ignore this key: set it to null if this "
                    "is one of them; others apply it, and are not supported.",
                )

    def _check_own_size(self, config: Mapping[str, Any]) -> None:
        if pair(config.get("sample_size", 32)) is None:
            raise self._error(
                "vae_decoder",
                "sample_size",
                "expected one whole number or a pair [height, width], the image's size in pixels, "
                "for there is no U-Net beside that says the latent's. Set it and try again.",
            )

    def _check_text_encoder(self, config: Mapping[str, Any]) -> None:
        positions, longest = config.get("max_position_embeddings", 77), longest_prompt(self.folder)
        if not is_count(positions) or positions < 2:
            raise self._error(
                "text_encoder",
                "max_position_embeddings",
                f"expected a whole number, the tokens of a prompt ({CONTEXT_TOKENS} in CLIP), with "
                "two marks. Correct it, or download the text encoder again.",
                positions,
            )
        if longest is not None and (not is_count(longest) or longest < 2 or longest > positions):
            raise InputError(
                f"{self.folder / 'tokenizer' / 'tokenizer_config.json'}: model_max_length is "
                f"{longest!r}; expected a whole number from 2 to {positions}, which is "
                f"max_position_embeddings in text_encoder/config.json: the text encoder takes no "
                "longer prompt. Take both from one pipeline, or correct model_max_length."
            )

    def _config(self, component: Component) -> dict[str, Any]:
        return read_config(self._path(component))

    def _path(self, component: Component) -> Path:
        return self.folder / FOLDERS[component] / "config.json"

    def _error(self, component: Component, key: str, why: str, found: object = None) -> InputError:
        value = self._config(component).get(key) if found is None else found
        return InputError(f"{self._path(component)}: {key} is {_shown(value)}; {why}")


def context_width(config: Mapping[str, Any]) -> int | None:
    """Numbers a token that a U-Net takes; None where blocks take different ones, or for nonsense.

    ``encoder_hid_dim`` is the width before a projection to ``cross_attention_dim``.
    """
    own = config.get("encoder_hid_dim")
    width = config.get("cross_attention_dim", 1280) if own is None else own
    widths = list(width) if isinstance(width, list | tuple) else [width]
    first = widths[0] if widths else None
    return first if is_count(first) and all(each == first for each in widths) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)
