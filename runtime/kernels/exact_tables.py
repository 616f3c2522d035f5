"""A switch for measurements: tables replaced by the functions they stand for.

Inside ``with exact_tables():`` kernels round the float64 function where they would interpolate.
Everything else stays as the hardware does it, so what changes is the tables' own error. Bundles
never run this way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_EXACT: ContextVar[bool] = ContextVar("exact tables", default=False)


@contextmanager
def exact_tables() -> Iterator[None]:
    """Tables are exact inside the block, for this thread of control."""
    token = _EXACT.set(True)
    try:
        yield
    finally:
        _EXACT.reset(token)


def tables_are_exact() -> bool:
    """Whether ``exact_tables`` is in force."""
    return _EXACT.get()
