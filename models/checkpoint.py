"""Reads the networks of a diffusers pipeline folder, each as a checked module.

Every defect of a folder that can be found by looking (missing parts, damaged or incomplete
weights, NaN) becomes an InputError here, before hours of compilation rest on it.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefusion.models.weight_files import unexpected, weight_files
from edgefusion.runtime.errors import InputError, in_brief

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from torch import nn

    from edgefusion.models.families.family import Part

_DIGEST_CHUNK_BYTES = 1 << 22
_LIBRARY_ERRORS = (
    *(OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError),
    *(ArithmeticError, AssertionError),
)


def folder_digest(folder: Path, without: Collection[str] = ()) -> str:
    """sha256, as hex, over the paths and contents of a folder's files; hidden ones, and those whose
    names end in one of ``without``, are left out."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.is_file() and not hidden and path.suffix not in without:
            total.update(f"{inside.as_posix()}\0{file_digest(path)}\n".encode())
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file as hex, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_DIGEST_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def load_from_folder(folder: Path, part: Part, variant: str | None = None) -> nn.Module:
    """A part of a pipeline folder as its kind has it (``NetworkKind.part``): float32, in evaluation
    mode. ``variant`` says which of its weight files are meant (``weight_files``).

    Raises InputError for missing or damaged files, weights that do not fit the configuration, and
    weights that are NaN or infinite.
    """
    module = part.kind.part(_load(folder, part, variant))
    check_finite(module, str(folder / part.folder))
    return module


def load_whole(folder: Path, part: Part, variant: str | None = None) -> nn.Module:
    """As ``load_from_folder``, but its library's whole module: of a decoder, the autoencoder."""
    module = _load(folder, part, variant)
    check_finite(module, str(folder / part.folder))
    return module


def _load(folder: Path, part: Part, variant: str | None) -> nn.Module:
    import torch

    place = folder / part.folder
    if not place.is_dir():
        raise InputError(
            f"{folder} has no folder {place.name}/, so there is no {part.component} to load. "
            "Leave it out with --components, or download the whole pipeline."
        )
    files = weight_files(place, part.kind, variant)
    files.shapes()  # a file that is not whole is told by its name
    with quiet_libraries(), as_input_error(place):
        module, info = part.kind.library_class().from_pretrained(
            place,
            local_files_only=True,
            output_loading_info=True,
            torch_dtype=torch.float32,
            variant=files.variant,
            use_safetensors=files.are_safetensors,
        )
    check_loading(place, info)
    loaded: nn.Module = module.requires_grad_(False).float().eval()
    return loaded


def described_network(place: Path, part: Part) -> nn.Module:
    """The network that config.json in ``place`` describes, as its library makes it: where and with
    what weights, the caller's context decides."""
    with quiet_libraries(), as_input_error(place):
        network = part.kind.library_class()
        if part.kind.library == "transformers":
            config = network.config_class.from_pretrained(place, local_files_only=True)
            made = network(config)
        else:
            made = network.from_config(network.load_config(place, local_files_only=True))
    module: nn.Module = made.eval()
    return module


def check_finite(module: nn.Module, where: str) -> None:
    """Raises InputError, naming the first such tensor, when a weight is NaN or infinite."""
    import torch

    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise InputError(
                f"{where}: the weight {name} holds {bad} NaN or infinite values of "
                f"{tensor.numel()}; expected finite numbers. The checkpoint is damaged or its "
                "training diverged: use an earlier one."
            )


def check_loading(place: Path, info: dict[str, Any]) -> None:
    """Refuses what the libraries only warn about: weights that they would draw at random, or leave
    out."""
    beyond = unexpected(info.get("unexpected_keys", ()))
    if beyond:
        raise InputError(
            f"{place}: {len(beyond)} weights in the file are none that config.json asks for, first "
            f"{beyond[0]}. config.json and weights belong to different models."
        )
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        raise InputError(
            f"{place}: {len(missing)} weights that config.json asks for are not in the file, "
            f"first {missing[0]}; expected all of them. config.json and weights belong to "
            "different models, or the download is incomplete."
        )
    mismatched = sorted(map(str, info.get("mismatched_keys", ())))
    if mismatched:
        raise InputError(
            f"{place}: {len(mismatched)} weights have another shape than config.json asks for, "
            f"first {mismatched[0]}. config.json and weights belong to different models."
        )


@contextmanager
def as_input_error(place: Path | str) -> Iterator[None]:
    """What the libraries say of a place they cannot load or run, as one paragraph."""
    try:
        yield
    except _LIBRARY_ERRORS as error:
        reason = in_brief(error)
        raise InputError(
            f"{place} cannot be loaded: {reason or type(error).__name__}. Expected config.json "
            "and weights as save_pretrained writes them. Check both, or download them again."
        ) from error


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Loading bars and load reports off: what matters in them becomes an InputError."""
    import warnings

    import diffusers
    import transformers

    loggers = (diffusers.utils.logging, transformers.utils.logging)
    levels = [logger.get_verbosity() for logger in loggers]
    bars = [logger.is_progress_bar_enabled() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity(logger.CRITICAL)
        logger.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level, bar in zip(loggers, levels, bars, strict=True):
            logger.set_verbosity(level)
            if bar:
                logger.enable_progress_bar()
