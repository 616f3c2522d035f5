"""What is said of groups is what the program and its measurement hold."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from edgefusion.cli.groups import all_groups, group_tables
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.measurement import component_latency
from edgefusion.toolchain.reporting.groups import group_rows
from tests.grouped_cases import CASES, MACHINE

SLOW = MACHINE.with_values(sram_bytes=80 * 1024, dma_bandwidth_bytes_per_s=6e9)
ROOMY = SLOW.with_values(sram_bytes=256 * 1024)


def document(case: str, machine: object = SLOW) -> dict[str, object]:
    program = lower(CASES[case], machine, schedule_named("pipelined")).program  # type: ignore[arg-type]
    component = component_latency(program, machine)  # type: ignore[arg-type]
    rows = group_rows(program, [group.to_json() for group in component.groups])
    for row, group in zip(rows, component.groups, strict=True):
        assert row["latency_ms"] == group.latency_ps / 1e9
        assert row["moved_bytes"] == group.dram_read_bytes + group.dram_write_bytes
        assert row["moved_bytes"] >= row["least_bytes"] == row["apart_bytes"] - row["saved_bytes"]
    assert sum(row["moved_bytes"] for row in rows) == (
        component.dram_read_bytes + component.dram_write_bytes
    )
    return {"components": {"unet": {"schedule": "pipelined", "groups": rows}}}


def terminal(found: dict[str, object], width: int) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    for table in group_tables(found):
        table.show(console)
    return file.getvalue()


def test_a_repeated_op_saves_less_than_nothing_first_and_more_then() -> None:
    found = document("norms")
    first, second = found["components"]["unet"]["groups"]  # type: ignore[index]
    assert first["ops"] == ["conv1:statistics"]
    assert second["ops"] == ["conv1", "norm", "conv2"]
    assert first["saved_bytes"] == -first["least_bytes"] < 0 < second["saved_bytes"]
    assert second["rolling"] == ["a", "n"]
    assert first["border"] == "statistics first, then values"
    assert second["border"] == ""


def test_what_stays_and_until_when() -> None:
    found = document("norms", ROOMY)
    first, *_ = found["components"]["unet"]["groups"]  # type: ignore[index]
    nbytes = CASES["norms"].tensors["a"].nbytes
    assert first["stays"] == [
        {"tensor": "a", "bytes": nbytes, "to_group": 1, "in_dram": False, "over": None}
    ]
    (line,) = (line for line in terminal(found, 120).splitlines() if "until" in line)
    assert f"{nbytes / 1e6:.2f} MB until 1" in line


@pytest.mark.parametrize("case", CASES)
def test_the_table_fits_eighty_columns(case: str) -> None:
    text = terminal(document(case), 80)
    assert max(map(len, text.splitlines())) <= 80
    last = "binary" if case == "chain" else "group_norm"
    assert all(word in text for word in ("stripe", "saved", "because", "conv +", last)), text


def test_csv_has_every_group() -> None:
    found = document("norms")
    rows = list(csv.DictReader(io.StringIO(all_groups(found).csv())))
    assert [row["ops"] for row in rows] == ["conv1:statistics", "conv1, norm, conv2"]
    assert rows[0]["component"] == "unet"
