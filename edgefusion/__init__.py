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
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.toolchain.accuracy.recipe import Recipe
    from edgefusion.toolchain.compiling.budgets import Budgets

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
    "Budgets": "edgefusion.toolchain.compiling.budgets",
    "Bundle": "edgefusion.compiler.bundle.bundle",
    "Recipe": "edgefusion.toolchain.accuracy.recipe",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'edgefusion' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "edgefusion.api")), name)
