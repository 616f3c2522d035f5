"""Models of the transformers and diffusers libraries from local folders; never from the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgefusion.models.checkpoint import as_input_error, quiet_libraries
from edgefusion.runtime.errors import InputError


def from_local_folder(loader: Callable[..., Any], folder: Path | str, **options: Any) -> Any:
    """``loader(folder, local_files_only=True, ...)``, a library's ``from_pretrained``.

    Raises InputError for a folder that is missing, incomplete or of another kind.
    """
    if not Path(folder).is_dir():
        raise InputError(
            f"{folder} is no folder. Expected a local folder with weights, as save_pretrained "
            "writes it; nothing is downloaded. Fetch the model first, as with `hf download`."
        )
    with quiet_libraries(), as_input_error(folder):
        return loader(str(folder), local_files_only=True, **options)


def default_device() -> str:
    """``cuda`` where there is one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
