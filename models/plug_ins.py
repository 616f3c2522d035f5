"""Objects that a user names: ``package.module:attribute``, from an installed package or the folder
that the command runs in."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from edgefusion.runtime.errors import UsageError


def is_object_name(text: str) -> bool:
    """Whether ``text`` has the form ``package.module:attribute``."""
    module, _, attribute = text.partition(":")
    return bool(attribute) and all(
        part.isidentifier() for part in f"{module}.{attribute}".split(".")
    )


def named_object(text: str) -> Any:
    """The object called ``package.module:attribute``. Raises UsageError where there is none."""
    if not is_object_name(text):
        raise UsageError(f"{text}: expected package.module:attribute, as in my_scorers:best_crop.")
    module_name, _, attribute = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = import_module(module_name)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"{text} cannot be loaded: {error}. Expected an importable module, installed or in "
            f"{here}, with that attribute."
        ) from error
    return found
