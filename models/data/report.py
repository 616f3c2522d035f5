"""What a stage did, in numbers: report.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What a stage did. ``dropped`` counts samples by reason: in = out + dropped, always.

    ``facts`` are the stage's own figures; ``captions_cut`` tells how many captions have more tokens
    than CLIP takes, None where no tokenizer counted them.
    """

    stage: str
    source: str
    settings: Mapping[str, Any]
    samples_in: int
    samples_out: int
    dropped: Mapping[str, int]
    captions_cut: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.samples_in != self.samples_out + sum(self.dropped.values()):
            raise AssertionError(f"samples were lost: {self}")

    def to_json(self) -> dict[str, Any]:
        """As report.json holds it."""
        return asdict(self)
