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
        simulate,
        simulate_bundle,
        tiles,
        traffic_of,
    )
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.runtime.errors import (
        DoesNotFitError,
        EdgeFusionError,
        InputError,
        NumericGateError,
        RegressionError,
        UnsupportedOpError,
        UsageError,
    )
    from edgefusion.runtime.machine import Machine
    from edgefusion.runtime.target import Target, list_targets, load_target
    from edgefusion.toolchain.accuracy.recipe import Recipe
    from edgefusion.toolchain.compiling.budgets import Budgets
    from edgefusion.toolchain.profiling.profile import Profile
    from edgefusion.values import VerificationResult, draw, run, verify
    from edgefusion.views import diff, plots, report, sweep, trace

__all__ = [
    "Budgets",
    "Bundle",
    "CompileResult",
    "DoesNotFitError",
    "EdgeFusionError",
    "InputError",
    "Machine",
    "NumericGateError",
    "Profile",
    "Recipe",
    "RegressionError",
    "Target",
    "UnsupportedOpError",
    "UsageError",
    "VerificationResult",
    "__version__",
    "compile_source",
    "diff",
    "draw",
    "list_targets",
    "load_target",
    "open_bundle",
    "plots",
    "report",
    "run",
    "simulate",
    "simulate_bundle",
    "sweep",
    "tiles",
    "trace",
    "traffic_of",
    "verify",
]

_HOMES = {
    "Budgets": "edgefusion.toolchain.compiling.budgets",
    "Bundle": "edgefusion.compiler.bundle.bundle",
    "DoesNotFitError": "edgefusion.runtime.errors",
    "EdgeFusionError": "edgefusion.runtime.errors",
    "InputError": "edgefusion.runtime.errors",
    "Machine": "edgefusion.runtime.machine",
    "NumericGateError": "edgefusion.runtime.errors",
    "Profile": "edgefusion.toolchain.profiling.profile",
    "Recipe": "edgefusion.toolchain.accuracy.recipe",
    "RegressionError": "edgefusion.runtime.errors",
    "Target": "edgefusion.runtime.target",
    "UnsupportedOpError": "edgefusion.runtime.errors",
    "UsageError": "edgefusion.runtime.errors",
    "VerificationResult": "edgefusion.values",
    "draw": "edgefusion.values",
    "list_targets": "edgefusion.runtime.target",
    "load_target": "edgefusion.runtime.target",
    "run": "edgefusion.values",
    "verify": "edgefusion.values",
    **dict.fromkeys(("diff", "plots", "report", "sweep", "trace"), "edgefusion.views"),
}
"""Where public names are defined, but for those of ``edgefusion.api``."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'edgefusion' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "edgefusion.api")), name)


def __dir__() -> list[str]:
    """The public names: those not yet imported, too."""
    return sorted(__all__)
