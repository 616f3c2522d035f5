"""The public Python API: compile a source to bundles, time them, and look into them.

from edgefusion import compile_source, open_bundle, simulate

compile_source("bk-sdm-tiny", output="tiny.npub", schedules="mlt")
profile = simulate("tiny.npub", set={"dma_bandwidth": "30GB/s"})
print(profile, profile.ops_frame().nlargest(10, "image_latency_ps"))

Functions take an open bundle or its path. What is wrong raises an error of ``runtime.errors``:
UsageError for arguments that cannot be, InputError for files, DoesNotFitError for a machine on
which no tiling of an op fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.arguments import brief, names_of, path_of
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.latency import PipelineLatency
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.progress import Say, silent
from edgefusion.runtime.target import Target
from edgefusion.toolchain.compiling.compile_source import CompileResult, compile_source
from edgefusion.toolchain.profiling.profile import Profile, profile_bundle
from edgefusion.toolchain.profiling.scenario import Scenario, scenario_of

if TYPE_CHECKING:
    import pandas as pd

    from edgefusion.runtime.ledger import Ledger

__all__ = [
    "AnyBundle",
    "CompileResult",
    "Settings",
    "compile_source",
    "open_bundle",
    "simulate",
    "simulate_bundle",
    "tiles",
    "traffic_of",
]

AnyBundle = Bundle | str | PathLike[str]
"""A bundle, or the path of one."""
AnyTarget = str | PathLike[str] | Target | Machine
"""A target: its name, its file, itself, or a machine alone."""
Settings = Mapping[str, int | float | str] | Sequence[str]
"""Values of machine parameters: ``{"sram": "4MiB", "dma_bandwidth": 30e9}``, or texts as on the
command line, ``["sram=4MiB", "dma_bandwidth=30GB/s"]``."""


def open_bundle(path: Path | str, *, verify: bool = True) -> Bundle:
    """Open and check a bundle; see ``Bundle.open``."""
    return Bundle.open(path_of(path, "the bundle"), verify=verify)


def simulate(
    bundle: AnyBundle,
    *,
    target: AnyTarget | None = None,
    set: Settings = (),  # noqa: A002  # the name that the command line has
    schedule: str | None = None,
    steps: int | None = None,
    components: str | Sequence[str] | None = None,
    lower_again: bool = False,
    verify: bool = True,
    progress: Say | None = None,
) -> Profile:
    """Time ``components`` of a bundle (all when left out), as it was compiled or otherwise.

    ``target`` is timed in place of the bundle's own, ``set`` changes parameters of either. Where
    only rates change, the same program is timed; where sizes or the ``schedule`` do, or where
    ``lower_again`` asks for it, the bundle's network is lowered again. ``steps`` are evaluations of
    the U-Net. Without ``verify`` the digests of weights and the program's accesses are not checked.
    """
    whole = opened(bundle, verify=verify)
    scenario = _scenario(whole, target, set, schedule, steps, lower_again=lower_again)
    return profile_bundle(
        whole, scenario, components=components, verify=verify, progress=progress or silent
    )


def simulate_bundle(
    bundle: AnyBundle, *, components: str | Iterable[str] | None = None, verify: bool = True
) -> PipelineLatency:
    """Time a bundle's programs on the machine that they were compiled for: the latency records of
    ``simulate``, which says more."""
    names = None if components is None else names_of(components, "components")
    return simulate(bundle, components=names, verify=verify).latency


def traffic_of(bundle: AnyBundle, *, verify: bool = True) -> tuple[tuple[Ledger, int], ...]:
    """Each component's ledger of DRAM traffic (one evaluation), and how often it runs."""
    return simulate(bundle, verify=verify).traffic


def tiles(
    bundle: AnyBundle,
    op: str,
    *,
    component: str | None = None,
    target: AnyTarget | None = None,
    set: Settings = (),  # noqa: A002
    schedule: str | None = None,
) -> pd.DataFrame:
    """The tilings of an op that the compiler considered, best first, with what each would cost or
    why it was rejected, on the bundle's machine or another.

    ``op`` is a name, a module, or a pattern of either, as in ``simulate(bundle).ops_frame()``, with
    the component's name and a dot before it where several components have one. Raises UsageError
    for an op that is not there.
    """
    from edgefusion.toolchain.profiling.frames import tilings_frame
    from edgefusion.toolchain.reporting.tile_choices import tile_choices

    whole = opened(bundle)
    scenario = _scenario(whole, target, set, schedule)
    if not isinstance(op, str):
        raise UsageError(f"op is {brief(op)}; expected its name.")
    names = whole.components
    if component is not None:
        names = (whole.manifest.component(component).name,)
    return tilings_frame(tile_choices(whole, op, names, scenario))


def opened(bundle: AnyBundle, *, verify: bool = True) -> Bundle:
    """``bundle``, opened and checked where it is a path; UsageError for anything else."""
    if isinstance(bundle, Bundle):
        return bundle
    if isinstance(bundle, str | PathLike):
        return Bundle.open(path_of(bundle, "the bundle"), verify=verify)
    raise UsageError(f"the bundle is {brief(bundle)}; expected a bundle, or the path of one.")


def _scenario(
    bundle: Bundle,
    target: AnyTarget | None,
    settings: Settings,
    schedule: str | None,
    steps: int | None = None,
    *,
    lower_again: bool = False,
) -> Scenario:
    if isinstance(target, PathLike):
        target = path_of(target, "target")
    return scenario_of(
        bundle,
        settings=_texts(settings),
        target=target,
        schedule=schedule,
        steps=steps,
        lower_again=lower_again,
    )


def _texts(settings: Settings) -> tuple[str, ...]:
    """``KEY=VALUE`` of each setting."""
    if not isinstance(settings, Mapping):
        return names_of(settings, "set", "KEY=VALUE text")
    found = []
    given: Iterable[tuple[object, object]] = settings.items()
    for key, value in given:
        if not isinstance(key, str) or "=" in key:
            raise UsageError(f"set has the key {brief(key)}; expected a machine parameter's name.")
        number = hasattr(value, "__float__") and not isinstance(value, bool)
        if not number and not isinstance(value, str):
            raise UsageError(f"set[{key!r}] is {brief(value)}; expected a number, or a text.")
        found.append(f"{key}={value}")
    return tuple(found)
