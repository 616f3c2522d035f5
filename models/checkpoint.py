"""Reads the networks of a diffusers pipeline folder, each as a module and the values for it.

Every defect of a folder that can be found by looking (missing parts, damaged or incomplete
weights) becomes an InputError here, before hours of compilation rest on it; NaN as values are read.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.models.outline import Outline, Values, finite, without_values
from edgefusion.models.weight_files import (
    check_shapes,
    expected_shapes,
    stored_names,
    weight_files,
)
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


def outline_from_folder(folder: Path, part: Part, variant: str | None = None) -> Outline:
    """The whole module of a part of a pipeline folder, as its configuration describes it, and the
    values in its files. ``variant`` says which of these are meant (``weight_files``).

    Raises InputError for missing or damaged files and for weights that do not fit the
    configuration; the values, for those that are NaN or infinite.
    """
    place = folder / part.folder
    if not place.is_dir():
        raise InputError(
            f"{folder} has no folder {place.name}/, so there is no {part.component} to load. "
            "Leave it out with --components, or download the whole pipeline."
        )
    files = weight_files(place, part.kind, variant)
    tensors = files.tensors()
    module = without_values(lambda: described_network(place, part))
    check_shapes(place, files.shapes(), expected_shapes(module, tensors))
    names = stored_names(module, tensors)
    return outlined(module, lambda name: tensors[names[name]](), str(place))


def outlined(module: nn.Module, stored: Values, where: str) -> Outline:
    """``module`` with its buffers as they are ``stored``, where they are."""
    values = finite(lambda name: stored(name).float(), where)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, buffer in module.state_dict(keep_vars=True).items():
        if name not in parameters:
            buffer.copy_(values(name))
    return Outline(module, values)


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
