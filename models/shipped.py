"""Checkpoints that come with this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

SHIPPED: Mapping[str, Path] = MappingProxyType(
    {"miniature": Path(__file__).parent / "miniature" / "checkpoint"}
)
"""Pipeline folders, by the name that SOURCE takes."""
