"""How a component's scales were made, as its bundle's manifest says it."""

from __future__ import annotations

from dataclasses import dataclass

from edgefusion.runtime.validation import Timestep, Whole

NONE = "none"
PLACEHOLDER = "placeholder"


@dataclass(frozen=True, slots=True)
class ScalesInfo:
    """Where the scales of INT16 tensors come from.

    ``method``: ``none`` (no tensor needs one), ``placeholder`` (not calibrated: the program has
    latency but no values), else how ranges became scales. ``inputs``: ``trajectories`` or
    ``synthetic``. ``remarks``: patterns in the ranges that make INT16 arithmetic unsafe.
    """

    method: str = NONE
    inputs: str = ""
    evaluations: Whole = 0
    prompts: tuple[str, ...] = ()
    timesteps: tuple[Timestep, ...] = ()
    remarks: tuple[str, ...] = ()
