"""Budgets: what an op needs is measured on the program itself, and the largest is named."""

from __future__ import annotations

import re

import pytest

from edgefusion.runtime.errors import DoesNotFitError, UsageError
from edgefusion.runtime.isa import Cause, DType, EngineKind, Opcode, Role, Space
from edgefusion.runtime.latency import PipelineLatency
from edgefusion.runtime.measurement import component_latency
from edgefusion.runtime.program import BufferRecord, Operand, OpRecord, Program, TensorRecord
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.compiling.budgets import Budgets, largest_dram_need, largest_sram_need
from edgefusion.toolchain.compiling.host_share import heavy_host


def program() -> Program:
    """``small`` uses SRAM up to byte 32, ``large`` up to 1016, when 96 DRAM bytes are live."""
    builder = ProgramBuilder("model", "exynos2400", "serial")
    for name in ("small", "large"):
        builder.ops.append(OpRecord(name, "unary", (f"{name}_node",)))
    builder.tensors.append(TensorRecord("x", DType.FP16, (8,), Role.ACTIVATION, 0, 64))
    builder.buffers += [
        BufferRecord("x", Space.DRAM, 0, 64, 0, 1),
        BufferRecord("y", Space.DRAM, 64, 32, 1, 1),
    ]
    dram = Operand(0, Space.DRAM, 0, DType.FP16, (8,), (2,))
    for op, tile in enumerate(
        (
            Operand(0, Space.SRAM, 16, DType.FP16, (8,), (2,)),
            Operand(0, Space.SRAM, 0, DType.FP16, (2, 4), (1008, 2)),
        )
    ):
        source = dram if op == 0 else Operand(0, Space.DRAM, 0, DType.FP16, (2, 4), (8, 2))
        after = (op - 1,) if op else ()
        builder.emit(
            EngineKind.DMA, 0, Opcode.LOAD, (tile,), (source,), op, after, Cause.ACTIVATION
        )
    return builder.build(sram_bytes=1024, dram_bytes=96)


def test_needs_are_those_of_the_largest_op() -> None:
    nbytes, op = largest_sram_need(program())
    assert (nbytes, op.name) == (1016, "large")
    nbytes, op = largest_dram_need(program())
    assert (nbytes, op.name) == (96, "large")


@pytest.mark.parametrize(
    ("budget", "limit", "excess"), [("max_sram_bytes", 1000, 16), ("max_dram_bytes", 90, 6)]
)
def test_excess_is_told(budget: str, limit: int, excess: int) -> None:
    with pytest.raises(DoesNotFitError, match=rf"large \(unary, from large_node.*{excess} bytes"):
        Budgets(**{budget: limit}).check_program(program())  # type: ignore[arg-type]
    Budgets(**{budget: limit + excess}).check_program(program())  # type: ignore[arg-type]


def test_latency_budget_names_the_costliest_op() -> None:
    latency = component_latency(program(), load_target("exynos2400").machine)
    pipeline = PipelineLatency(((latency, 3),))
    Budgets(max_latency_ms=pipeline.total_ms).check_latency(pipeline)
    with pytest.raises(DoesNotFitError, match=r"op (small|large) of model"):
        Budgets(max_latency_ms=pipeline.total_ms / 2).check_latency(pipeline)


def host_program(operations: int) -> Program:
    """A call of the host that computes so much, and the load of 8 elements."""
    found = program()
    builder = ProgramBuilder("model", "exynos2400", "serial")
    builder.ops.append(OpRecord("host0", "host", ("conv", "relu", "a", "b")))
    builder.ops.append(OpRecord("add", "binary", ("add",)))
    builder.tensors += found.tensors
    dram = Operand(0, Space.DRAM, 0, DType.FP16, (8,), (2,))
    tile = Operand(0, Space.SRAM, 16, DType.FP16, (8,), (2,))
    attrs = (("function", "host0"), ("operations", operations))
    builder.emit(EngineKind.HOST, 0, Opcode.CALL, (dram,), (dram,), 0, (), attrs=attrs)
    builder.emit(EngineKind.DMA, 0, Opcode.LOAD, (tile,), (dram,), 1, (0,), Cause.ACTIVATION)
    return builder.build(sram_bytes=1024, dram_bytes=96)


def test_heavy_host_work_is_named() -> None:
    machine = load_target("exynos2400").machine.with_values(host_macs_per_s=1e9, host_call_ns=0.0)
    heavy = PipelineLatency(((component_latency(host_program(2_000_000), machine), 3),))
    named = r"ost functions take 6\.000 ms of 6\.00\d ms, .* host0 of model \(from conv, relu"
    assert re.match(f"h{named}", heavy_host(heavy))
    with pytest.raises(DoesNotFitError, match=rf"\. H{named}.*\)\. Nothing was written"):
        Budgets(max_latency_ms=1).check_latency(heavy)
    light = PipelineLatency(((component_latency(host_program(10), machine), 3),))
    assert heavy_host(light) == ""
    assert heavy_host(PipelineLatency(((component_latency(program(), machine), 3),))) == ""


def test_limits_are_positive() -> None:
    with pytest.raises(UsageError, match="--max-sram-bytes is 0"):
        Budgets(max_sram_bytes=0)
    with pytest.raises(UsageError, match="--max-latency-ms is nan"):
        Budgets(max_latency_ms=float("nan"))
