from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.training_cases import one_thread


@pytest.fixture(autouse=True, scope="package")
def _single_thread() -> Iterator[None]:
    with one_thread():
        yield
