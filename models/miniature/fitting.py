"""The plain loop that trains what stands beside the U-Nets: codec, text encoder, classifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from edgefusion.runtime.progress import Say, silent

if TYPE_CHECKING:
    from torch import nn

_WARM_UP = 50


def fit(
    network: nn.Module,
    loss: Callable[[int], torch.Tensor],
    *,
    steps: int,
    learning_rate: float,
    say: Say = silent,
) -> None:
    """Minimise ``loss`` of the step's number by AdamW; the rate rises over the first steps, then
    falls along half a cosine. The network is left frozen, in evaluation mode."""
    network.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=1e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - _WARM_UP))
    rising = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, 1.0, _WARM_UP)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, falling], [_WARM_UP])
    for step in range(steps):
        value = loss(step)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        schedule.step()
        say(f"step {step + 1} of {steps}, loss {value.item():.4g}")
    network.requires_grad_(False).eval()
