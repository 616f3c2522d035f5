"""The exponential moving average of a network: a network itself, so that it can run."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


class MovingAverage:
    """``network``, a frozen float32 copy; after each ``update`` a = d a + (1 - d) w.

    With ``warm_up`` the decay d grows as (1 + n) / (10 + n) to its value over updates n, as in
    diffusers' EMAModel, where the first update copies. ``updates`` and ``network`` are all of its
    state.
    """

    def __init__(self, source: nn.Module, decay: float, *, warm_up: bool = False) -> None:
        self.network = copy.deepcopy(source).float().requires_grad_(False).eval()
        self.updates = 0
        self._decay = decay
        self._warm_up = warm_up

    @property
    def decay(self) -> float:
        """Of the next update."""
        if not self._warm_up:
            return self._decay
        if self.updates == 0:
            return 0.0
        return min((1 + self.updates) / (10 + self.updates), self._decay)

    @torch.no_grad()
    def update(self, source: nn.Module) -> None:
        """Move towards ``source``, which has the parameters of the network it began with."""
        weight = 1.0 - self.decay
        for average, current in zip(self.network.parameters(), source.parameters(), strict=True):
            average.lerp_(current.detach().to(average.dtype), weight)
        for kept, now in zip(self.network.buffers(), source.buffers(), strict=True):
            kept.copy_(now)
        self.updates += 1
