"""Networks of a pipeline in one file, with the keys of the original training code.

Such a file has neither configurations nor a tokenizer: those of the pipeline's folder that it lies
in are taken. Which key is which weight, diffusers' own conversions say; they are run on shapes
alone to check a file, and on values to load it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from edgefusion.models.checkpoint import (
    as_input_error,
    described_network,
    outlined,
    quiet_libraries,
)
from edgefusion.models.config_file import read_config
from edgefusion.models.outline import without_values
from edgefusion.models.weight_files import Shapes, check_shapes, expected_shapes, stored_names
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    import torch

    from edgefusion.models.families.family import Part
    from edgefusion.models.outline import Outline


_OPEN_CLIP = ("cond_stage_model.model.", "conditioner.embedders.1.model.")
_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "UNet2DConditionModel": ("model.diffusion_model.",),
    "AutoencoderKL": ("first_stage_model.",),
    "CLIPTextModel": (
        "cond_stage_model.transformer.",
        "conditioner.embedders.0.transformer.",
        _OPEN_CLIP[0],
    ),
    "CLIPTextModelWithProjection": _OPEN_CLIP[1:],
}
"""What keys begin with, by class of the network."""


def stored_shapes(file: Path, folder: Path, part: Part) -> Shapes:
    """Of the weights of ``part`` in ``file``, by the names they have in its module."""
    import torch

    def shaped(stored: Any, name: str) -> torch.Tensor:
        return torch.empty(stored.get_slice(name).get_shape(), device="meta")

    found = _converted(file, folder / part.folder, part, shaped)
    return {name: tuple(tensor.shape) for name, tensor in found.items()}


def outline_from_file(file: Path, folder: Path, part: Part) -> Outline:
    """The whole module of ``part``, configured as ``folder`` says, and its values in ``file``.

    Raises InputError for weights that are not those of the configuration; the values, for those
    that are NaN or infinite.
    """
    place = folder / part.folder
    module = without_values(lambda: described_network(place, part))
    found = _converted(file, place, part, lambda stored, name: stored.get_tensor(name))
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    check_shapes(file, shapes, expected_shapes(module, shapes))
    names = stored_names(module, shapes)
    return outlined(module, lambda name: found[names[name]], f"{file}, {part.component}")


def _converted(
    file: Path, place: Path, part: Part, read: Callable[[Any, str], torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """The weights of ``part`` by their names in diffusers, as ``read`` makes them of an open file
    and a key."""
    from diffusers.loaders.single_file_utils import (
        convert_ldm_clip_checkpoint,
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
        convert_open_clip_checkpoint,
    )
    from safetensors import safe_open

    prefixes = _PREFIXES.get(part.kind.class_name)
    if prefixes is None:
        raise InputError(
            f"{file} has no weights of {part.component}: files of this layout hold no "
            f"{part.kind.class_name}. Compile the pipeline's folder, or one without it."
        )
    config = read_config(place / "config.json")
    with as_input_error(file), quiet_libraries(), safe_open(file, framework="pt") as stored:
        tensors = {
            name: read(stored, name)
            for name in stored.keys()  # noqa: SIM118
            if name.startswith(prefixes)
        }
        if part.kind.class_name == "UNet2DConditionModel":
            converted: Mapping[str, torch.Tensor] = convert_ldm_unet_checkpoint(tensors, config)
        elif part.kind.class_name == "AutoencoderKL":
            converted = convert_ldm_vae_checkpoint(tensors, config)
        elif any(name.startswith(_OPEN_CLIP) for name in tensors):
            prefix = next(p for p in _OPEN_CLIP if any(name.startswith(p) for name in tensors))
            sized = SimpleNamespace(config=SimpleNamespace(hidden_size=config.get("hidden_size")))
            converted = convert_open_clip_checkpoint(sized, tensors, prefix)
        else:
            converted = convert_ldm_clip_checkpoint(tensors)
    return converted
