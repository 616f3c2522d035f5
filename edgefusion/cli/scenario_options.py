"""Options that time a bundle on another machine than it was compiled for ("what if")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.options import split_names
from edgefusion.cli.paths import Reads
from edgefusion.runtime.errors import UsageError
from edgefusion.toolchain.reporting.number_forms import quantity

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.runtime.progress import Say
    from edgefusion.toolchain.profiling.profile import Profile
    from edgefusion.toolchain.profiling.scenario import Scenario

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A parameter of the machine, as in dma_bandwidth=30GB/s, sram=4MiB or "
        "dma_bandwidth=2x; once for each. See `targets`.",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE.toml", help="Another machine; see `targets`."),
    Reads(),
]
ScheduleOption = Annotated[
    str | None,
    typer.Option(metavar="serial|mlt|pipelined", help="Another schedule; lowers again."),
]
StepsOption = Annotated[int | None, typer.Option(help="Another number of denoising steps.")]
LowerAgainOption = Annotated[
    bool,
    typer.Option(
        "--lower-again",
        help="Lower again even where only rates change: tiles are chosen anew for them.",
    ),
]
ComponentsFilter = Annotated[
    str | None,
    typer.Option(
        "--components", metavar="A,B", help="Only these of the bundle's, separated by commas."
    ),
]
OpsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--op",
        metavar="OP",
        help="Only these ops: a name, a module path, or a pattern such as `'*attn1*'`; once for "
        "each.",
    ),
]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What the options above were given."""

    settings: Sequence[str] = ()
    target: str | None = None
    schedule: str | None = None
    steps: int | None = None
    lower_again: bool = False


def opened(path: Path, what_if: WhatIf, say: Say) -> tuple[Bundle, Scenario]:
    """Open and check a bundle; what to time it on."""
    from edgefusion.api import open_bundle
    from edgefusion.toolchain.profiling.scenario import scenario_of

    say(f"checking {path}")
    bundle = open_bundle(path)
    scenario = scenario_of(
        bundle,
        settings=what_if.settings,
        target=what_if.target,
        schedule=what_if.schedule,
        steps=what_if.steps,
        lower_again=what_if.lower_again,
    )
    return bundle, scenario


def timed(path: Path, what_if: WhatIf, components: str | None, say: Say) -> Profile:
    """Open a bundle, and time its ``components`` (all when left out) as asked."""
    from edgefusion.toolchain.profiling.profile import profile_bundle

    bundle, scenario = opened(path, what_if, say)
    names = chosen_components(bundle, components)
    return profile_bundle(bundle, scenario, components=names, progress=say)


def chosen_components(bundle: Bundle, text: str | None) -> tuple[str, ...]:
    """The components that ``A,B`` names, in pipeline order; all for None. UsageError for others."""
    names = split_names(text)
    if names is None:
        return bundle.components
    if not names:
        raise UsageError(f"--components names none; the bundle has {', '.join(bundle.components)}.")
    wanted = {bundle.manifest.component(name).name for name in names}
    return tuple(name for name in bundle.components if name in wanted)


def heading(document: dict[str, Any]) -> str:
    """Which bundle, schedule and machine a document of ``toolchain.reporting`` is about."""
    return f"{document['bundle']}, {document['schedule']} on {document['target']}"


def change_lines(document: dict[str, Any]) -> list[str]:
    """What was changed, from what, and what that meant; none where nothing was."""
    changes, before = document["changes"], document["changed_from"]
    again = document["lowered_again"]
    if not changes and not again:
        return []
    lines = [
        f"changed     {key}: {_value(before[key])} -> {_value(changes[key])}" for key in changes
    ]
    how = "lowered again from the bundle's network" if again else "the bundle's own, timed anew"
    return [*lines, f"programs    {how}"]


def _value(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return quantity(int(value) if float(value).is_integer() else value)
