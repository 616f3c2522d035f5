"""LoRA files: read in the formats of diffusers and kohya, checked, and fused into a network.

A file holds, for each module it changes, two matrices of low rank; fused, a weight W becomes
W + scale * (alpha / rank) * up @ down (Hu et al., "LoRA", 2021). Which key is which module,
diffusers' own conversions say; what they leave out in silence is refused here by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from edgefusion.models.checkpoint import file_digest, quiet_libraries
from edgefusion.models.outline import Outline, finite
from edgefusion.models.weight_files import SAFETENSORS, unpickled
from edgefusion.runtime.errors import InputError, UsageError, in_brief

if TYPE_CHECKING:
    import torch

_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_OTHER_METHODS = re.compile(
    r"dora_scale|lora_magnitude_vector|lokr_|hada_|oft_|lora_mid\.|lora_embedding_|lora_B\.bias|diff(_b)?$"
)
"""Keys of what is trained like a LoRA and is none: not the product of two matrices alone."""
_METADATA = "lora_adapter_metadata"
"""In the header of safetensors that diffusers writes: peft's configuration, by component."""
_SHOWN = 3
_CONVERSION_ERRORS = (ValueError, KeyError, IndexError, AttributeError, TypeError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Update:
    """What one module's weight [out, in, ...] changes by: ``factor`` * ``up`` [out, rank] @
    ``down`` [rank, in, ...]; ``factor`` is alpha over rank."""

    down: torch.Tensor
    up: torch.Tensor
    factor: float

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a weight of ``shape`` can change by it; sizes of one at the end do not count."""
        rank = self.down.shape[0]
        return (
            len(shape) > 1
            and _trimmed(self.down.shape[1:]) == _trimmed(shape[1:])
            and _trimmed(self.up.shape) == _trimmed((shape[0], rank))
        )

    def change(self, shape: tuple[int, ...]) -> torch.Tensor:
        """In FP32, for a weight of ``shape``."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return (self.factor * product).reshape(shape)


Updates = Mapping[str, Mapping[str, Update]]
"""By component, and by module in it."""


@dataclass(frozen=True)  # without slots: the digest is computed once, on demand, and kept
class Lora:
    """A LoRA file, and how much of it is added."""

    path: Path
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Lora:
        """``FILE`` or ``FILE:SCALE``. Raises UsageError for another scale, InputError for no
        file."""
        file, colon, number = text.rpartition(":")
        if not colon or Path(text).expanduser().is_file():
            file, number = text, "1"
        try:
            scale = float(number)
        except ValueError:
            scale = float("nan")
        if not isfinite(scale):
            raise UsageError(
                f"--lora {text}: expected FILE or FILE:SCALE, as in style.safetensors:0.8."
            )
        path = Path(file).expanduser()
        if not path.is_file():
            raise InputError(
                f"there is no LoRA file {path}; expected a .safetensors or .bin file, with :SCALE "
                "where it is not 1. Check the spelling and the working directory."
            )
        return cls(path, scale)

    @cached_property
    def digest(self) -> str:
        """sha256 of the file, as hex."""
        return file_digest(self.path)

    def updates(self, unet: Mapping[str, Any]) -> Updates:
        """All that the file holds; ``unet`` is the configuration of the network it is for, which
        block numbers of the original layout depend on.

        Raises InputError, naming keys, for what is no LoRA or is not understood.
        """
        tensors, metadata = _read(self.path)
        if other := [key for key in tensors if _OTHER_METHODS.search(key)]:
            raise self._error(
                f"holds {_shown(other)}",
                "it was trained by another method (DoRA, LoKr, LoHa, biases and the like), whose "
                "changes are no product of two matrices. Fuse it with the tool it was made for",
            )
        try:
            with quiet_libraries():
                weights, alphas = _in_diffusers_names(tensors, unet)
                halves, factors = _in_peft_names(weights, alphas)
        except _CONVERSION_ERRORS as error:
            raise self._error(
                f"is not understood: {in_brief(error)}",
                "save it with diffusers (pipe.save_lora_weights)",
            ) from error
        return self._paired(halves, factors, metadata)

    def _paired(
        self,
        halves: Mapping[str, Mapping[str, torch.Tensor]],
        alphas: Mapping[str, Mapping[str, float]],
        metadata: Mapping[str, Any],
    ) -> Updates:
        """Both matrices of each module."""
        found: dict[str, dict[str, Update]] = {}
        for component, tensors in halves.items():
            modules = {key.removesuffix(_DOWN) for key in tensors if key.endswith(_DOWN)}
            paired = {f"{module}{half}" for module in modules for half in (_DOWN, _UP)}
            if odd := sorted(tensors.keys() ^ paired):
                names = [f"{component}.{key}" if component else key for key in odd]
                raise self._error(
                    f"has the keys {_shown(names)}",
                    "expected a lora_down (lora_A) and a lora_up (lora_B) for each module of unet "
                    "or a text encoder, as pipe.save_lora_weights writes them. Convert it with "
                    "diffusers",
                )
            for module in modules:
                down, up = tensors[module + _DOWN], tensors[module + _UP]
                factor = _factor(
                    component, module, down.shape[0], alphas.get(component, {}), metadata
                )
                found.setdefault(component, {})[module] = Update(down, up, factor)
        if not found:
            raise self._error("holds no weights", "download it again")
        return found

    def check(self, component: str, updates: Mapping[str, Update], shapes: Shapes) -> None:
        """Raises InputError, naming the first keys, unless ``updates`` are of a component with
        weights of ``shapes``."""
        lacking, other = [], []
        for module, update in updates.items():
            shape = shapes.get(_weight_of(module, shapes))
            if shape is None:
                lacking.append(f"{component}.{module}")
            elif not update.fits(shape):
                changed = [update.up.shape[0], *update.down.shape[1:]]
                other.append(f"{component}.{module} {changed}, where there is {list(shape)}")
        if lacking or other:
            why = (
                f"changes {len(lacking)} modules that the {component} has not, {_shown(lacking)}"
                if lacking
                else f"changes {len(other)} weights of another shape, {_shown(other)}"
            )
            raise self._error(
                why,
                "it was trained for another architecture. Take the LoRA of this one (such as of "
                "Stable Diffusion v1 or of XL)",
            )

    def fused(self, outline: Outline, updates: Mapping[str, Update]) -> Outline:
        """``outline`` of a component, with ``updates``, which are of it, added to its values."""
        names = dict(outline.module.named_parameters())
        changes = {_weight_of(module, names): update for module, update in updates.items()}

        def values(name: str) -> torch.Tensor:
            weight = outline.values(name)
            if (update := changes.get(name)) is None:
                return weight
            return weight.add(update.change(tuple(weight.shape)), alpha=self.scale)

        return replace(outline, values=finite(values, f"the weights with the LoRA {self.path}"))

    def _error(self, found: str, advice: str) -> InputError:
        return InputError(f"the LoRA {self.path} {found}; {advice}.")


Shapes = Mapping[str, tuple[int, ...]]


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors by key, and what the header says of them."""
    import torch

    if path.suffix != SAFETENSORS:
        stored = unpickled(path, "cpu")
        return {k: v for k, v in stored.items() if isinstance(v, torch.Tensor)}, {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"the LoRA {path} is not a whole safetensors file: {in_brief(error)}. Download it "
            "again (git clones need `git lfs pull`)."
        ) from error
    return tensors, metadata if isinstance(metadata, dict) else {}


def _in_diffusers_names(
    tensors: dict[str, torch.Tensor], unet: Mapping[str, Any]
) -> tuple[Mapping[str, torch.Tensor], Mapping[str, float]]:
    """Keys with a component before the first dot, and alphas by key of the down matrix."""
    from diffusers.loaders import StableDiffusionLoraLoaderMixin

    config = SimpleNamespace(**{"layers_per_block": 2, **unet})
    loaded, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(
        dict(tensors), unet_config=config
    )
    by_key = {}
    for name, alpha in (alphas or {}).items():
        base = name.removesuffix(".alpha")
        by_key[base if base.endswith(".weight") else f"{base}.lora.down.weight"] = float(alpha)
    weights = {}
    for key, value in loaded.items():
        if key.endswith(".alpha"):
            base = key.removesuffix(".alpha")
            downs = (k for k in loaded if k.startswith(f"{base}.") and _is_down(k))
            by_key |= dict.fromkeys(downs, float(value))
        else:
            weights[key] = value
    return weights, by_key


def _in_peft_names(
    weights: Mapping[str, torch.Tensor], alphas: Mapping[str, float]
) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, dict[str, float]]]:
    """Weights by component and peft's key in it, and alphas by component and module."""
    from diffusers.utils.state_dict_utils import (
        StateDictType,
        convert_state_dict_to_diffusers,
        convert_state_dict_to_peft,
        convert_unet_state_dict_to_peft,
    )

    by_component: dict[str, dict[str, str]] = {}
    for key in weights:
        component, _, rest = key.partition(".")
        known = component == "unet" or component.startswith("text_encoder")
        by_component.setdefault(component if known else "", {})[rest if known else key] = key
    found: dict[str, dict[str, torch.Tensor]] = {}
    factors: dict[str, dict[str, float]] = {}
    for component, keys in by_component.items():
        converted: Mapping[str, str] = keys
        if component and not all(".lora_A." in key or ".lora_B." in key for key in keys):
            if component == "unet":
                converted = convert_unet_state_dict_to_peft(keys)
            else:
                # Said, for they guess it from modules that not every file has.
                if any("_lora." in key for key in keys):
                    converted = convert_state_dict_to_diffusers(keys, StateDictType.DIFFUSERS_OLD)
                converted = convert_state_dict_to_peft(converted, StateDictType.DIFFUSERS)
        found[component] = {new: weights[old] for new, old in converted.items()}
        factors[component] = {
            new.removesuffix(_DOWN): alphas[old] for new, old in converted.items() if old in alphas
        }
    return found, factors


def _factor(
    component: str,
    module: str,
    rank: int,
    alphas: Mapping[str, float],
    metadata: Mapping[str, Any],
) -> float:
    """alpha over rank: by the file's own alphas, by its header as peft writes it, else 1."""
    if module in alphas:
        return alphas[module] / rank
    patterns = metadata.get(f"{component}.alpha_pattern")
    alpha = metadata.get(f"{component}.lora_alpha", rank)
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            alpha = value
            break
    root = metadata.get(f"{component}.use_rslora") is True
    return float(alpha) / (rank**0.5 if root else rank)


def _is_down(key: str) -> bool:
    return key.endswith((".down.weight", _DOWN, ".lora_down.weight"))


def _weight_of(module: str, names: Iterable[str]) -> str:
    """The name of a module's weight: text encoders have their transformer's name before it, or not,
    as their library's version is."""
    name = f"{module}.weight"
    bare = name.removeprefix("text_model.")
    return next((each for each in (name, bare, f"text_model.{bare}") if each in names), name)


def _trimmed(sizes: Iterable[int]) -> tuple[int, ...]:
    kept = list(sizes)
    while len(kept) > 1 and kept[-1] == 1:
        kept.pop()
    return tuple(kept)


def _shown(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"first {', '.join(found[:_SHOWN])}{more}"
