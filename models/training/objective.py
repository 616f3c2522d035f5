"""What the training loop asks of the thing it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgefusion.models.training.batches import Batch
    from edgefusion.models.training.draws import Draws
    from edgefusion.models.training.moving_average import MovingAverage


@dataclass(frozen=True, slots=True)
class Losses:
    """``total`` carries gradient; ``terms`` are what it is made of, unweighted, for the log."""

    total: torch.Tensor
    terms: Mapping[str, torch.Tensor]


class Objective(Protocol):
    """A student with its teacher and everything else that its losses need."""

    @property
    def student(self) -> nn.Module:
        """What is trained, not wrapped."""
        ...

    @property
    def average(self) -> MovingAverage:
        """The student's moving average; the loop updates it after every step."""
        ...

    @property
    def frozen(self) -> Sequence[nn.Module]:
        """Networks that only run."""
        ...

    def losses(self, student: Any, batch: Batch, draws: Draws) -> Losses:
        """Of one batch; ``student`` is the wrapped student and is called exactly once, so that
        gradients of several processes are averaged right."""
        ...


def weighted_sum(terms: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> Losses:
    """Total of the terms that have a weight; all terms for the log."""
    parts = [weights[name] * terms[name] for name in weights]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return Losses(total, {name: term.detach() for name, term in terms.items()})
