"""Goldens, and the option that rewrites them: ``pytest tests/golden --bless``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Golden = Callable[[str, str], None]
GOLDENS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="rewrite goldens with what is made now")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares a text with the golden ``<name>.txt``, a path below tests/golden; a missing golden
    fails."""

    def compare(name: str, text: str) -> None:
        path = GOLDENS / f"{name}.txt"
        # pytest knows the option only where tests/golden is named on its command line
        if request.config.getoption("--bless", default=False):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        how = "If it is right, `pytest tests/golden --bless` records it."
        assert path.exists(), f"expected a golden {name}.txt, found none. {how}\n{text}"
        assert text == path.read_text(encoding="utf-8"), f"{name}.txt differs. {how}"

    return compare
