"""The weight files of a pipeline folder: which are read, what they hold, what lies beside them.

Of networks only names, headers and lists are read: shapes, never values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefusion.runtime.errors import InputError, in_brief

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgefusion.models.networks.kind import NetworkKind

Shapes = Mapping[str, tuple[int, ...]]

SAFETENSORS = ".safetensors"
WEIGHT_SUFFIXES = (SAFETENSORS, ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")
_HALF = "fp16"
_STEMS: Mapping[str, tuple[str, str]] = {
    "diffusers": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    "transformers": ("model", "pytorch_model"),
}
"""Of weight files by library: of safetensors, and of pickles."""
_LIBRARY_ERRORS = (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError)
_ADAPTER = re.compile(
    r"lora|lycoris|adapter_config\.json|adapter_model|learned_embeds|textual_inversion"
    r"|ip[-_]adapter|hypernetwork",
    re.IGNORECASE,
)
_LORA = re.compile("lora", re.IGNORECASE)
_ADAPTER_KEY = re.compile(r"(\.|_|^)(lora|lokr|loha|hada|dora)_", re.IGNORECASE)
_HARMLESS = re.compile(
    r"(.*\.)?position_ids|text_projection\.weight|logit_scale"  # of a text encoder
    r"|visual_projection\.weight|vision_model\..*"  # of the CLIP that it is a half of
    r"|loss\..*"  # of a VAE's training
)
"""Weights beyond the configuration that no result depends on."""
_RENAMED = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))
"""Names in the attention of old VAEs, which diffusers reads as the new ones."""


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """``used`` are what the libraries read, ``variant`` how they are asked for it, ``unused`` the
    names of what lies beside."""

    used: tuple[Path, ...]
    variant: str | None
    unused: tuple[str, ...]

    @property
    def are_safetensors(self) -> bool:
        """Or else pickles, of which tensors alone are unpickled."""
        return all(path.suffix == SAFETENSORS for path in self.used)

    @property
    def remark(self) -> str | None:
        """What was chosen of several; None where there was no choice."""
        if not self.unused:
            return None
        names = ", ".join(path.name for path in self.used)
        why = ""
        if self.variant is None and any(f".{_HALF}" in name for name in self.unused):
            why = f", for full precision goes before {_HALF} (--variant {_HALF} takes that)"
        return f"weights from {names}{why}; not read: {', '.join(self.unused)}"

    def shapes(self) -> Shapes:
        """Of all stored weights by name. Raises InputError for files that are not whole."""
        found: dict[str, tuple[int, ...]] = {}
        for path in self.used:
            found |= _shapes(path)
        return found

    def tensors(self) -> Mapping[str, Callable[[], torch.Tensor]]:
        """What gives each stored weight by name, in its own type; of safetensors it is read when
        it is asked for, of pickles all are in memory. Raises InputError for files that are not
        whole."""
        found: dict[str, Callable[[], torch.Tensor]] = {}
        for path in self.used:
            if path.suffix == SAFETENSORS:
                stored = _opened(path, "pt")
                found |= {name: partial(stored.get_tensor, name) for name in stored.keys()}  # noqa: SIM118
            else:
                found |= {name: partial(_given, x) for name, x in _unpickled(path, "cpu").items()}
        return found


def weight_files(place: Path, kind: NetworkKind, variant: str | None = None) -> WeightFiles:
    """What is read in ``place``, one component's folder: files of ``variant``, for None those of
    full precision, else fp16; of these safetensors before pickles.

    Raises InputError where there is nothing, or where parts of a split file are missing.
    """
    there = sorted(p.name for p in place.iterdir() if p.suffix in WEIGHT_SUFFIXES and p.is_file())
    for tried in (variant,) if variant else (None, _HALF):
        for name in _candidates(kind, tried):
            if not (place / name).is_file():
                continue
            used = _parts(place / name) if name.endswith(".json") else (place / name,)
            names = {path.name for path in used}
            return WeightFiles(used, tried, tuple(n for n in there if n not in names))
    expected = " or ".join(_candidates(kind, variant)[:2])
    if there and variant:
        raise InputError(
            f"{place} holds {', '.join(there)}; expected {expected}, for --variant {variant} was "
            "given. Leave --variant out, or download that variant of the whole pipeline."
        )
    if there:
        variants = sorted({v for name in there if (v := _variant_of(name, kind)) is not None})
        if variants:
            raise InputError(
                f"{place} holds {', '.join(there)}, the variant {' and '.join(variants)}; expected "
                f"{expected}, or {_HALF}. Name the variant that is meant: --variant {variants[0]}."
            )
        raise InputError(
            f"{place} holds {', '.join(there)}; expected {expected}, which the libraries read. "
            "Rename the file to it where it holds this network's whole weights."
        )
    raise InputError(
        f"{place} holds no weights; expected {expected} beside config.json. "
        "Download the component again (git clones need `git lfs pull`)."
    )


def _candidates(kind: NetworkKind, variant: str | None) -> tuple[str, ...]:
    """Names in the order in which the library of ``kind`` looks for them, where it is told whether
    safetensors are meant."""
    middle = f".{variant}" if variant else ""
    found: list[str] = []
    for stem, suffix in zip(_STEMS[kind.library], (SAFETENSORS, ".bin"), strict=True):
        whole = f"{stem}{middle}{suffix}"
        index = f"{stem}{suffix}.index{middle}.json"
        found += (whole, index) if kind.library == "transformers" else (index, whole)
    return tuple(found)


def _variant_of(name: str, kind: NetworkKind) -> str | None:
    """The variant that a weight file's name says, of one file or of a part of several."""
    for stem in _STEMS[kind.library]:
        if found := re.fullmatch(rf"{stem}\.([\w-]+?)(-\d+-of-\d+)?\.(safetensors|bin)", name):
            return found[1]
    return None


def _parts(index: Path) -> tuple[Path, ...]:
    """The files that a split file's index names."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        found = tuple(sorted(index.parent / name for name in names))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{index} is no index of weights: {error}. Download the component again."
        ) from error
    for path in found:
        if path.parent != index.parent or not path.is_file():
            raise InputError(
                f"{index} names {path.name}, which is not beside it. Download the whole component."
            )
    return found


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if path.suffix == SAFETENSORS:
        with _opened(path, "np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    stored = _unpickled(path, "meta")  # no values
    return {name: tuple(x.shape) for name, x in stored.items()}


def _opened(path: Path, framework: str) -> Any:
    """A safetensors file. Raises InputError for one that is not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework=framework)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} ({path.stat().st_size} bytes) is not a whole safetensors file: {error}. "
            "Download it again (git clones need `git lfs pull`)."
        ) from error


def _unpickled(path: Path, device: str) -> dict[str, torch.Tensor]:
    import torch

    stored = unpickled(path, device)
    return {name: x for name, x in stored.items() if isinstance(x, torch.Tensor)}


def _given(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def unpickled(path: Path, device: str) -> Mapping[str, Any]:
    """What ``torch.save`` wrote, by name, on ``device``; nothing but tensors is unpickled.

    Raises InputError for anything else.
    """
    import pickle

    import torch

    try:
        stored: Any = torch.load(path, map_location=device, weights_only=True)
    except (*_LIBRARY_ERRORS, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path} cannot be read as weights: {in_brief(error, 80)}. Expected tensors by name, "
            "as torch.save writes them. Save the component with safetensors instead."
        ) from error
    if not isinstance(stored, dict):
        raise InputError(f"{path} holds no tensors by name. Save the component with safetensors.")
    return {str(name): value for name, value in stored.items()}


def expected_shapes(module: nn.Module, stored: Collection[str]) -> Shapes:
    """Of a module's weights by name; of a weight with several names, by those that are ``stored``,
    as one of them is enough, and by its first where none is."""
    weights = module.state_dict(keep_vars=True)
    names: dict[int, list[str]] = {}
    for name, weight in weights.items():
        names.setdefault(id(weight), []).append(name)
    there = ([name for name in each if name in stored] or each[:1] for each in names.values())
    return {name: tuple(weights[name].shape) for each in there for name in each}


def check_shapes(place: Path, stored: Shapes, expected: Shapes) -> None:
    """Raises InputError, naming the first, unless ``stored`` weights are those that config.json
    asks for; none may be left over, but for a few that no result depends on."""
    found = {_modern(name): shape for name, shape in stored.items()}
    wanted = {_modern(name): shape for name, shape in expected.items()}
    beyond = unexpected(found.keys() - wanted.keys())
    if beyond:
        raise InputError(
            f"{place}: {len(beyond)} weights in the files are none that config.json asks for, "
            f"first {beyond[0]}; they would be left out. {_BOTH_FROM_ONE}"
        )
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise InputError(
            f"{place}: {len(missing)} weights that config.json asks for are not in the files, "
            f"first {missing[0]}; expected all of them. {_BOTH_FROM_ONE}"
        )
    other = sorted(name for name in wanted if found[name] != wanted[name])
    if other:
        name = other[0]
        raise InputError(
            f"{place}: {len(other)} weights have another shape than config.json asks for, first "
            f"{name}: {list(found[name])}, expected {list(wanted[name])}. {_BOTH_FROM_ONE}"
        )


def stored_names(module: nn.Module, stored: Collection[str]) -> dict[str, str]:
    """Of a module's weights by name, under which the files have them; one of several names has
    what is stored of any."""
    modern = {_modern(name): name for name in stored}
    weights = module.state_dict(keep_vars=True)
    there: dict[int, str] = {}
    for name, weight in weights.items():
        if (found := modern.get(_modern(name))) is not None:
            there.setdefault(id(weight), found)
    return {name: there[id(weight)] for name, weight in weights.items() if id(weight) in there}


_BOTH_FROM_ONE = (
    "config.json and weights belong to different models, or the download is incomplete: take both "
    "from one checkpoint."
)


def unexpected(names: Iterable[str]) -> list[str]:
    """Those of the ``names`` beyond a configuration that results may depend on, sorted."""
    return sorted(name for name in names if not _HARMLESS.fullmatch(name))


def _modern(name: str) -> str:
    name = name.removeprefix("text_model.")
    for old, new in _RENAMED:
        name = re.sub(rf"(attentions\.\d+)\.{old}\.", rf"\1.{new}.", name)
    return name


@dataclass(frozen=True, slots=True)
class Adapters:
    """Files that change networks: those of ``loras``, and of other methods."""

    loras: tuple[Path, ...]
    others: tuple[Path, ...]


def adapters(folder: Path, parts: Collection[str]) -> Adapters:
    """LoRA, adapter and textual-inversion files anywhere in ``folder``, by name or, outside
    the ``parts`` that are compiled, by content."""
    loras: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or not path.is_file():
            continue
        is_weights = path.suffix in WEIGHT_SUFFIXES
        by_name = _ADAPTER.search(inside.as_posix()) is not None
        if by_name and (is_weights or path.name == "adapter_config.json"):
            (loras if is_weights and _LORA.search(inside.as_posix()) else others).append(path)
        elif path.suffix == ".safetensors" and inside.parts[0] not in parts:
            try:
                names = _shapes(path)
            except InputError:
                continue  # nothing that is read
            if any(_ADAPTER_KEY.search(name) for name in names):
                (loras if is_lora(names) else others).append(path)
    return Adapters(tuple(loras), tuple(others))


def is_lora(names: Iterable[str]) -> bool:
    """Whether weights of these ``names`` are a LoRA's."""
    return any(_ADAPTER_KEY.search(name) and _LORA.search(name) for name in names)


def weight_names(path: Path) -> tuple[str, ...]:
    """Of a safetensors file. Raises InputError for one that is not whole."""
    return tuple(_shapes(path))


def unread(folder: Path, parts: Iterable[str]) -> tuple[str, ...]:
    """Weight files beside the pipeline: in none of the ``parts``' folders."""
    known = set(parts)
    inside = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple(
        path.as_posix()
        for path in inside
        if path.suffix in WEIGHT_SUFFIXES and (len(path.parts) == 1 or path.parts[0] not in known)
    )
