"""Results of steps on disk, by what they were made from: a finished step is never done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load, save

from edgefusion.runtime.files import kept_on_disk_errors, write_whole
from edgefusion.runtime.partials import remove_leftovers_below

if TYPE_CHECKING:
    from torch import nn

_RESULT, _WEIGHTS = "result.json", "network.safetensors"
VERSION = 1
"""Counted up whenever the same settings would give other results."""


@dataclass(frozen=True, slots=True)
class Step:
    """``name`` (a path of folders), ``settings`` of its own, and the steps that it builds on."""

    name: str
    settings: Mapping[str, Any]
    parents: tuple[Step, ...] = ()

    @property
    def key(self) -> str:
        """Tells it from the same step with other settings, or on other parents."""
        content = [VERSION, self.name, dict(self.settings), [step.key for step in self.parents]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Store:
    """Steps below ``folder``, each in a folder of its name and key."""

    folder: Path

    def place(self, step: Step) -> Path:
        """Where a step works and leaves its result."""
        return self.folder / step.name / step.key

    def result(self, step: Step, make: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
        """What ``make`` gives, now or in an earlier run; it works in the folder it is given."""
        place = self.place(step)
        file = place / _RESULT
        if not file.is_file():
            with kept_on_disk_errors(place):
                place.mkdir(parents=True, exist_ok=True)
                remove_leftovers_below(place)
                made = make(place)
                write_whole(file, json.dumps(dict(made), indent=1).encode() + b"\n")
        found: dict[str, Any] = json.loads(file.read_bytes())
        return found

    def network(self, step: Step, empty: Any, make: Callable[[Path], nn.Module]) -> Any:
        """``empty`` filled with the weights of the network that ``make`` trains, frozen."""
        file = self.place(step) / _WEIGHTS

        def trained(place: Path) -> Mapping[str, Any]:
            network = make(place)
            weights = {name: t.contiguous() for name, t in network.state_dict().items()}
            write_whole(file, save(weights))
            return {"parameters": sum(p.numel() for p in network.parameters())}

        self.result(step, trained)
        empty.load_state_dict(load(file.read_bytes()))
        return empty.requires_grad_(False).eval()
