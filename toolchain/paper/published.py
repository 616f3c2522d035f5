"""The EdgeFusion paper's Tables 6 and 7 as data (arXiv 2404.11925)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Table6Row:
    """A step of the attention block; percent of the block's total time without MLT."""

    operation: str
    engine: str
    without_mlt_percent: float | None
    with_mlt_percent: float | None


@dataclass(frozen=True, slots=True)
class Table7Row:
    """Latency on the Exynos 2400, milliseconds."""

    model: str
    mlt: bool
    encoder_ms: float
    unet_ms: float
    decoder_ms: float
    total_ms: float


def table6() -> tuple[Table6Row, ...]:
    """Table 6, the total last."""
    return tuple(
        Table6Row(
            row["operation"],
            row["engine"],
            _optional(row["without_mlt_percent"]),
            _optional(row["with_mlt_percent"]),
        )
        for row in _rows("edgefusion_table6.csv")
    )


def table7() -> tuple[Table7Row, ...]:
    """Table 7 in the paper's order."""
    return tuple(
        Table7Row(
            row["model"],
            row["mlt"] == "yes",
            float(row["encoder_ms"]),
            float(row["unet_ms"]),
            float(row["decoder_ms"]),
            float(row["total_ms"]),
        )
        for row in _rows("edgefusion_table7.csv")
    )


def _optional(text: str) -> float | None:
    return float(text) if text else None


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (_DATA / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))
