"""Random numbers that depend on the seed, the batch's number and a name, and on nothing else.

There is no generator whose state could get lost: a resumed run draws what the interrupted one
would have drawn. Numbers are drawn on the CPU for the batch of all processes, and each takes its
part, so that two processes see what one would with twice the batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch


def key(*parts: object) -> int:
    """A seed from any values: 63 bits of sha256."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass(frozen=True, slots=True)
class Draws:
    """For batch number ``batch`` of a run; this process is ``rank`` of ``world``."""

    seed: int
    batch: int
    rank: int = 0
    world: int = 1
    device: torch.device | str = "cpu"

    def normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Standard normal, float32; ``shape[0]`` is this process's number of samples."""
        drawn = torch.randn(self._all(shape), generator=self._generator(name))
        return self._mine(drawn, shape[0])

    def uniform(self, name: str, count: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """In [low, high), float32 [count]."""
        drawn = torch.rand(count * self.world, generator=self._generator(name))
        return self._mine(low + (high - low) * drawn, count)

    def integers(self, name: str, count: int, high: int) -> torch.Tensor:
        """In [0, high), int64 [count]."""
        drawn = torch.randint(high, (count * self.world,), generator=self._generator(name))
        return self._mine(drawn, count)

    def coin(self, name: str, probability: float) -> bool:
        """Once for the whole batch, the same in all processes."""
        return bool(torch.rand((), generator=self._generator(name)) < probability)

    def _generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(key(self.seed, self.batch, name))

    def _all(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] * self.world, *shape[1:])

    def _mine(self, drawn: torch.Tensor, count: int) -> torch.Tensor:
        return drawn[self.rank * count : (self.rank + 1) * count].to(self.device)
