"""How a component's scales were made, as its bundle's manifest says it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgefusion.runtime.errors import InputError

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
    evaluations: int = 0
    prompts: tuple[str, ...] = ()
    timesteps: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def scales_from_json(entry: object) -> ScalesInfo:
    """Read what ``to_json`` made; None is what older bundles have. InputError for other things."""
    if entry is None:
        return ScalesInfo(PLACEHOLDER)
    if not isinstance(entry, dict):
        raise InputError(f"expected scales to be an object, found {type(entry).__name__}")
    try:
        return ScalesInfo(
            str(entry["method"]),
            str(entry["inputs"]),
            int(entry["evaluations"]),
            tuple(map(str, entry["prompts"])),
            tuple(map(int, entry["timesteps"])),
            tuple(map(str, entry["remarks"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the record of scales is damaged: {error!r}") from error
