"""The paper's Tables 6 and 7 beside ours, from the rows of ``toolchain.paper.tables``'s JSON."""

from __future__ import annotations

from typing import Any

from edgefusion.cli.table import Column, Table, plain
from edgefusion.toolchain.reporting.number_forms import percent, signed_percent, tenths

_TABLE6 = (
    Column("operation", "operation"),
    Column("engine", "engine"),
    Column("without_mlt_percent", "without MLT %", percent),
    Column("paper_without_mlt_percent", "paper %", percent),
    Column("error_without_mlt_percentage_points", "error points", signed_percent),
    Column("with_mlt_percent", "with MLT %", percent),
    Column("paper_with_mlt_percent", "paper %", percent),
    Column("error_with_mlt_percentage_points", "error points", signed_percent),
)
_TABLE7_HEAD = (
    Column("model", "model"),
    Column("mlt", "MLT"),
    Column("unet_evaluations", "runs", plain),
)


def table6(document: dict[str, Any]) -> Table:
    """Shares of the attention block's time; 100 % is the block without MLT."""
    return Table("Table 6: attention block, % of its time without MLT", _TABLE6, document["table6"])


def table7(document: dict[str, Any]) -> Table:
    """Latency by component with the error of every figure."""
    columns = list(_TABLE7_HEAD)
    for part in ("encoder", "unet", "decoder", "total"):
        columns += [
            Column(f"{part}_ms", part, tenths),
            Column(f"paper_{part}_ms", "paper", tenths),
            Column(f"error_{part}_percent", "error %", signed_percent, detail=True),
        ]
    title = "Table 7: latency on the Exynos 2400 in ms, by number of U-Net runs"
    return Table(title, tuple(columns), document["table7"])
