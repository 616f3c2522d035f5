"""The traffic ledger of a program small enough to add up by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import Cause, DType, EngineKind, Opcode, Role, Space
from edgefusion.runtime.ledger import Ledger, pipeline_traffic_json, traffic_ledger
from edgefusion.runtime.program import Operand, OpRecord, Program, TensorRecord
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.target import load_target

MACHINE = load_target("exynos2400").machine.with_values(
    dma_bandwidth_bytes_per_s=1e9, dma_setup_ns=10.0, dma_burst_bytes=64
)


def transfers(component: str = "unet") -> Program:
    builder = ProgramBuilder(component, "exynos2400", "pipelined")
    for name in ("conv_in", "attention"):
        builder.ops.append(OpRecord(name, "conv", (name,)))
    for name, role in (("weight", Role.WEIGHT), ("scores", Role.SPILL), ("image", Role.OUTPUT)):
        builder.tensors.append(TensorRecord(name, DType.INT8, (4, 100), role, 0, 400))

    def move(opcode: Opcode, tensor: int, rows: int, op: int, cause: Cause) -> None:
        dram = Operand(tensor, Space.DRAM, 0, DType.INT8, (rows, 100), (128, 1))
        sram = Operand(tensor, Space.SRAM, 0, DType.INT8, (rows, 100), (100, 1))
        sides = ([sram], [dram]) if opcode == Opcode.LOAD else ([dram], [sram])
        builder.emit(EngineKind.DMA, 0, opcode, *sides, op, cause=cause)

    move(Opcode.LOAD, 0, 1, 0, Cause.WEIGHT)
    move(Opcode.STORE, 1, 3, 1, Cause.SPILL)
    move(Opcode.LOAD, 1, 3, 1, Cause.SPILL)
    move(Opcode.LOAD, 0, 2, 1, Cause.REREAD)
    move(Opcode.STORE, 2, 4, 1, Cause.OUTPUT)
    return builder.build()


@pytest.fixture
def ledger() -> Ledger:
    return traffic_ledger(transfers(), MACHINE)


def test_total(ledger: Ledger) -> None:
    total = ledger.total()
    assert (total.name, total.transfers, total.bytes) == ("unet", 5, 1300)
    assert (total.read_bytes, total.write_bytes) == (600, 700)
    assert total.bus_bytes == 13 * 128
    assert total.dma_ps == (5 * 10 + 13 * 128) * 1000


def test_views(ledger: Ledger) -> None:
    sums = {view: [(r.name, r.bytes) for r in ledger.by(view)] for view in ledger.key}
    assert sums["cause"] == [("spill", 600), ("output", 400), ("reread", 200), ("weight", 100)]
    assert sums["op"] == [("attention", 1200), ("conv_in", 100)]
    assert sums["tensor"] == [("scores", 600), ("image", 400), ("weight", 300)]
    assert sums["direction"] == [("write", 700), ("read", 600)]
    spill = ledger.by("cause")[0]
    assert (spill.transfers, spill.read_bytes, spill.write_bytes) == (2, 300, 300)
    assert (spill.bus_bytes, spill.dma_ps) == (6 * 128, (20 + 6 * 128) * 1000)


def test_equal_bytes_are_ordered_by_name() -> None:
    program = transfers()
    columns = replace(
        program.columns, operand_tensor=np.array([2, 2, 1, 1, 1, 1, 0, 0, 0, 0], np.int32)
    )
    names = [
        row.name for row in traffic_ledger(replace(program, columns=columns), MACHINE).by("tensor")
    ]
    assert names == ["scores", "weight", "image"]


def test_json(ledger: Ledger) -> None:
    data = json.loads(json.dumps(ledger.to_json()))
    assert data["schema_version"] == 1
    assert data["total_bytes"] == 1300
    assert data["by_cause"] == {
        "weight": 100, "input": 0, "output": 400, "activation": 0, "spill": 600, "reread": 200,
        "table": 0,
    }  # fmt: skip
    assert data["causes"][0]["dma_us"] == (20 + 6 * 128) / 1000
    assert data["by_direction"] == {"read": 600, "write": 700}


def test_pipeline_counts_every_evaluation() -> None:
    unet, vae = (traffic_ledger(transfers(name), MACHINE) for name in ("unet", "vae_decoder"))
    data = pipeline_traffic_json([(unet, 2), (vae, 1)])
    assert data["total_bytes"] == 3 * 1300
    assert data["by_cause"]["spill"] == 3 * 600
    assert data["by_component"] == {"unet": 2600, "vae_decoder": 1300}
    assert data["components"]["unet"]["total_bytes"] == 1300
    assert sum(data["by_cause"].values()) == sum(data["by_component"].values())


def test_a_program_without_transfers() -> None:
    empty = traffic_ledger(ProgramBuilder("unet", "exynos2400", "serial").build(), MACHINE)
    assert empty.total().bytes == 0
    assert empty.by("cause") == ()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("cause", np.array([1, 0, 5, 6, 3], dtype=np.uint8), "instruction 1 .*found cause 0"),
        ("cause", np.array([1, 5, 99, 6, 3], dtype=np.uint8), "cause is damaged"),
        ("op", np.array([0, 1, 2, 1, 1], dtype=np.int32), "instruction 2 .*unknown op 2"),
        ("op", np.array([0, 1, 1, -1, 1], dtype=np.int32), "instruction 3 .*unknown op -1"),
        (
            "operand_tensor",
            np.array([0, 0, 1, 1, 1, 3, 0, 0, 2, 2], np.int32),
            "instruction 2 .*tensor 3",
        ),
    ],
)
def test_unaccountable_transfers_are_refused(column: str, value: Any, message: str) -> None:
    program = transfers()
    broken = replace(program, columns=replace(program.columns, **{column: value}))
    with pytest.raises(InputError, match=message):
        traffic_ledger(broken, MACHINE)
