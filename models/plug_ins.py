"""Objects that a user names: ``package.module:attribute``, from an installed package or the folder
that the command runs in. What goes wrong in them is told as theirs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from edgefusion.runtime.errors import EdgeFusionError, InputError, UsageError


def is_object_name(text: str) -> bool:
    """Whether ``text`` has the form ``package.module:attribute``."""
    module, _, attribute = text.partition(":")
    return bool(attribute) and all(
        part.isidentifier() for part in f"{module}.{attribute}".split(".")
    )


def named_object(text: str) -> Any:
    """The object called ``package.module:attribute``. Raises UsageError where there is none, and
    InputError for a module that fails while it is imported."""
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
    except Exception as error:
        raise _failed(module_name, "while it was imported", error) from error
    return found


@dataclass(frozen=True, slots=True)
class NamedFunction:
    """A user's function; what it raises becomes an InputError that names it."""

    name: str
    function: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        """What the function gives."""
        try:
            return self.function(*arguments)
        except EdgeFusionError:
            raise
        except Exception as error:
            raise _failed(self.name, "when it was called", error) from error


def named_function(text: str) -> NamedFunction:
    """The callable called ``package.module:attribute``; UsageError for anything else."""
    found = named_object(text)
    if not callable(found):
        raise UsageError(f"{text} is a {type(found).__name__}; expected something callable.")
    return NamedFunction(text, found)


def listed(what: str, given: Any) -> list[Any]:
    """What a user's function, the ``what``, gave, as a list; InputError for what is no sequence."""
    try:
        return list(given)
    except TypeError as error:
        raise InputError(
            f"the {what} gave a {type(given).__name__}; expected a sequence."
        ) from error


def _failed(name: str, when: str, error: Exception) -> InputError:
    return InputError(
        f"{name} failed {when}: {type(error).__name__}: {error}. It is not a part of edgefusion; "
        "run again with EDGEFUSION_DEBUG=1 to see where."
    )
