"""EdgeFusion NPU toolchain: from a text-to-image diffusion checkpoint to a phone NPU bundle.

The public names load on first use, so that ``import edgefusion`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgefusion.api import (
        CompileResult,
        compile_source,
        open_bundle,
        simulate_bundle,
        traffic_of,
    )
    from edgefusion.budgets import Budgets
    from edgefusion.compiler.bundle import Bundle
    from edgefusion.recipe import Recipe

__all__ = [
    "Budgets",
    "Bundle",
    "CompileResult",
    "Recipe",
    "__version__",
    "compile_source",
    "open_bundle",
    "simulate_bundle",
    "traffic_of",
]

_HOMES = {
    "Budgets": "edgefusion.budgets",
    "Bundle": "edgefusion.compiler.bundle",
    "Recipe": "edgefusion.recipe",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'edgefusion' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "edgefusion.api")), name)
