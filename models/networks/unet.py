"""The conditional U-Net: a noisy latent, its timestep and conditions to the noise in it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgefusion.models.config_file import is_count, pair
from edgefusion.models.networks.kind import NetworkKind, Port, Signature, Sizes

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.config_file import ConfigFile

TEXT_TIME = "text_time"
"""``addition_embed_type`` of a U-Net that takes a pooled text and the picture's sizes (SDXL)."""
TIME_IDS = 6
"""Numbers of the picture's sizes: original, crop's corner, target, each of height and width."""
ELSEWHERE = (
    "Take a pipeline whose U-Net takes a latent, a timestep and a context alone, or export this "
    "U-Net to ONNX with all of its inputs and compile the .onnx file."
)
_LEAST_GUIDANCE_WIDTH = 4
_USUAL_CHANNELS, _USUAL_LAYERS = (320, 640, 1280, 1280), 2
"""Where a configuration does not say."""
ANY_LATENT = (64, 64)
"""Names of inputs do not depend on it."""
_PLAIN: Mapping[str, tuple[tuple[object, ...], str]] = MappingProxyType(
    {
        "attention_type": (("default",), "it asks for grounding inputs, as in GLIGEN"),
        "class_embed_type": ((None,), "it asks for class labels or an image embedding"),
        "dual_cross_attention": ((False, None), "it asks for a second context, of an image"),
        "encoder_hid_dim_type": ((None, "text_proj"), "it asks for an image embedding"),
        "num_class_embeds": ((None,), "it asks for class labels, as upscalers do"),
    }
)
"""Keys, the values that are supported, and why others are not."""


class ConditionalUNet(NetworkKind):
    """``sample`` [N, c, h, w], ``timestep`` [1], ``encoder_hidden_states`` [N, tokens, width]
    -> ``noise_pred`` [N, c, h, w]. The timestep is int64, or float32 where it may be a fraction.

    A student of latent-consistency distillation also takes ``timestep_cond`` [N, width], the
    guidance's embedding; one that knows the picture's sizes, ``text_embeds`` [N, width] and
    ``time_ids`` [N, 6]. One that ``inpaints`` takes the ``mask`` [N, 1, h, w] and the
    ``masked_image_latent`` [N, c, h, w] of what is left of the picture; one that is ``controlled``,
    ``residual_0`` and so on, ``residual_mid``, which are added to the states that its blocks pass
    on.
    """

    class_name: ClassVar[str] = "UNet2DConditionModel"
    library: ClassVar[Literal["diffusers", "transformers"]] = "diffusers"
    title: ClassVar[str] = "U-Net"
    usual_levels: ClassVar[int] = 4

    def __init__(self, *, inpaints: bool = False, controlled: bool = False) -> None:
        self.inpaints = inpaints
        self.controlled = controlled

    def channels(self, latent: int) -> int:
        """That it takes, beside one another, where a latent has so many."""
        return 2 * latent + 1 if self.inpaints else latent

    def check(self, config: ConfigFile) -> None:
        """See the base class."""
        values = config.values
        for key, (supported, why) in _PLAIN.items():
            check_supported(config, key, supported, why)
        if pair(values.get("sample_size")) is None:
            raise config.error(
                "sample_size",
                "expected one whole number or a pair [height, width], the latent's size (64 for "
                "512x512 pixels). Set it and try again.",
            )
        width = values.get("time_cond_proj_dim")
        if width is not None and (not is_count(width) or width < _LEAST_GUIDANCE_WIDTH):
            raise config.error(
                "time_cond_proj_dim",
                f"expected null or a whole number from {_LEAST_GUIDANCE_WIDTH}, the width of the "
                "guidance embedding. Correct it, or download the U-Net again.",
            )
        if context_width(values) is None:
            raise config.error(
                "cross_attention_dim",
                "expected one whole number, or the same one for each block: there is one context.",
            )

    def graph(self, part: nn.Module) -> nn.Module:
        """See the base class."""
        from edgefusion.models.graph_modules import UNetGraph

        ports = self.signature(part.config, Sizes(latent=ANY_LATENT))
        return UNetGraph(part, tuple(port.name for port in ports.inputs))

    def signature(self, config: Any, sizes: Sizes, batch: int = 1) -> Signature:
        """See the base class."""
        latent = sizes.latent or self.own_size(config)
        sample = (batch, config.out_channels, *latent)
        inputs = [Port("sample", sample), *self.prompt_ports(config, sizes, batch)]
        if self.inpaints:
            inputs.append(Port("mask", (batch, 1, *latent)))
            inputs.append(Port("masked_image_latent", sample))
        if self.controlled:
            inputs += residual_ports(config, latent, batch)
        return Signature(tuple(inputs), (Port("noise_pred", sample),))

    def prompt_ports(self, config: Any, sizes: Sizes, batch: int) -> tuple[Port, ...]:
        """The timestep, and what follows from the prompt and the picture's sizes."""
        ports = [
            Port("timestep", (1,), sizes.timestep_dtype),
            # The U-Net itself takes any number of tokens.
            Port(
                "encoder_hidden_states",
                (batch, sizes.context_tokens, context_width(config) or 0),
            ),
        ]
        if (width := config.get("time_cond_proj_dim")) is not None:
            ports.append(Port("timestep_cond", (batch, width)))
        if config.addition_embed_type == TEXT_TIME:
            ports.append(Port("text_embeds", (batch, pooled_width(config))))
            ports.append(Port("time_ids", (batch, TIME_IDS)))
        return tuple(ports)

    def exported_name(self, port: str, _config: Any, /) -> str:
        """See the base class."""
        return "out_sample" if port == "noise_pred" else port


def layers_of(config: Mapping[str, Any]) -> list[Any]:
    """How many layers each of a U-Net's levels has, outermost first."""
    layers = config.get("layers_per_block", _USUAL_LAYERS)
    return list(layers) if isinstance(layers, list | tuple) else [layers] * len(channels_of(config))


def channels_of(config: Mapping[str, Any]) -> list[Any]:
    """How many channels each of a U-Net's levels has, outermost first; none for nonsense."""
    channels = config.get("block_out_channels", _USUAL_CHANNELS)
    return list(channels) if isinstance(channels, list | tuple) else []


def residual_ports(
    config: Mapping[str, Any], latent: tuple[int, int], batch: int
) -> tuple[Port, ...]:
    """A port for each state that a U-Net's blocks pass on, and for its innermost block's: after the
    first convolution, each layer, and each halving."""
    channels, layers = channels_of(config), layers_of(config)
    sides, shapes = latent, [(channels[0], *latent)]
    for level, (width, count) in enumerate(zip(channels, layers, strict=True), 1):
        shapes += [(width, *sides)] * count
        if level < len(channels):
            sides = ((sides[0] + 1) // 2, (sides[1] + 1) // 2)
            shapes.append((width, *sides))
    named = [Port(f"residual_{n}", (batch, *shape)) for n, shape in enumerate(shapes)]
    return (*named, Port("residual_mid", (batch, channels[-1], *sides)))


def check_supported(
    config: ConfigFile, key: str, supported: tuple[object, ...], why: str, advice: str = ELSEWHERE
) -> None:
    """Raises InputError where ``key`` is there and its value is none of those ``supported``."""
    if key in config.values and config.values[key] not in supported:
        names = " or ".join("null" if v is None else str(v) for v in supported)
        raise config.error(key, f"expected {names}: {why}. {advice}")


def context_width(config: Mapping[str, Any]) -> int | None:
    """Numbers a token that a U-Net takes; None where blocks take different ones, or for nonsense.

    ``encoder_hid_dim`` is the width before a projection to ``cross_attention_dim``.
    """
    own = config.get("encoder_hid_dim")
    width = config.get("cross_attention_dim", 1280) if own is None else own
    widths = list(width) if isinstance(width, list | tuple) else [width]
    first = widths[0] if widths else None
    return first if is_count(first) and all(each == first for each in widths) else None


def pooled_width(config: Mapping[str, Any]) -> int:
    """Numbers of the pooled text that a U-Net with ``text_time`` takes; 0 for nonsense."""
    whole = config.get("projection_class_embeddings_input_dim")
    each = config.get("addition_time_embed_dim")
    return max(0, whole - TIME_IDS * each) if is_count(whole) and is_count(each) else 0
