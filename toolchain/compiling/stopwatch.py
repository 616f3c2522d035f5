"""Where the time of a compilation goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StageTime:
    """Wall-clock seconds of one stage of one component."""

    component: str
    stage: str
    seconds: float


@dataclass(slots=True)
class Stopwatch:
    """Collects stage times."""

    times: list[StageTime] = field(default_factory=list)

    @contextmanager
    def stage(self, component: str, stage: str) -> Iterator[None]:
        """Time what runs inside."""
        begin = time.perf_counter()
        yield
        self.times.append(StageTime(component, stage, time.perf_counter() - begin))
