from __future__ import annotations

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState

from tests.training_cases import one_thread


@pytest.fixture(autouse=True)
def _single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(autouse=True)
def _own_precision() -> Iterator[None]:
    """accelerate keeps the first precision of a process; tests want different ones."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
