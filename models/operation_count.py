"""Multiply-accumulates of a network, counted on the meta device: no weights, no arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from collections.abc import Callable

_ATTENTION = ("bmm", "scaled_dot_product")
"""Names of the ops between two activations; on the meta device attention decomposes to ``bmm``."""


@dataclass(frozen=True, slots=True)
class OperationCount:
    """Multiply-accumulates (two operations each) of one evaluation."""

    weight_macs: int
    """Of convolutions and linear layers. Counters in the style of ``thop`` report these alone."""
    attention_macs: int
    """Of Q K^T and S V, which have no weights."""

    @property
    def macs(self) -> int:
        """All of them."""
        return self.weight_macs + self.attention_macs


def count_operations(evaluate: Callable[[], object]) -> OperationCount:
    """What ``evaluate`` computes when it runs its network once, on whichever device."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        evaluate()
    weights = attention = 0
    for op, operations in counter.get_flop_counts()["Global"].items():
        if any(name in str(op) for name in _ATTENTION):
            attention += operations // 2
        else:
            weights += operations // 2
    return OperationCount(weights, attention)
