"""Latency records: attribution to ops on hand-made timelines, bounds, and the JSON form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgefusion.benchmarks.simulator_speed import synthetic_program
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.groups import EngineBounds, GroupRecord, ResidentRecord
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.latency import PipelineLatency, total_label
from edgefusion.runtime.measurement import attribute_ps, bound_violations, component_latency
from edgefusion.runtime.program import OpRecord, Program
from edgefusion.runtime.simulator import Timeline, simulate
from edgefusion.runtime.target import load_target

MACHINE = load_target("exynos2400").machine


def timed(spans: list[tuple[str, int, int, int]], ops: int = 3) -> tuple[Program, Timeline]:
    """A program and timeline of (engine, start, end, op), whose work is of no interest."""
    program = synthetic_program(5 * len(spans))
    kinds = {"dma0": EngineKind.DMA, "tensor0": EngineKind.TENSOR, "vector0": EngineKind.VECTOR}
    names = tuple(kinds)
    start, end = (np.array([s[i] for s in spans], dtype=np.int64) for i in (1, 2))
    engine = np.array([names.index(s[0]) for s in spans], dtype=np.uint8)
    columns = replace(program.columns, op=np.array([s[3] for s in spans], dtype=np.int32))
    records = tuple(OpRecord(f"op{i}", "conv", ()) for i in range(ops))
    nothing = np.zeros(3, dtype=np.int64)
    timeline = Timeline(
        start, end, end - start, engine, names, tuple(kinds.values()), nothing,
        np.zeros((3, 6), dtype=np.int64), nothing, simulate(program, MACHINE).work,
    )  # fmt: skip
    return replace(program, columns=columns, ops=records), timeline


def test_time_belongs_to_the_earliest_instruction_running() -> None:
    spans = [("dma0", 0, 10, 0), ("tensor0", 4, 20, 1), ("dma0", 10, 30, 2)]
    latency, stall = attribute_ps(*timed(spans))
    assert latency.tolist() == [10, 10, 10]
    assert stall.tolist() == [0, 0, 0]


def test_program_order_decides_not_start() -> None:
    spans = [("tensor0", 5, 10, 0), ("dma0", 0, 20, 1)]
    assert attribute_ps(*timed(spans))[0].tolist() == [5, 15, 0]


def test_a_gap_belongs_to_the_next_op_to_start() -> None:
    spans = [("dma0", 0, 10, 0), ("tensor0", 17, 20, 2), ("vector0", 15, 16, 1)]
    latency, stall = attribute_ps(*timed(spans))
    assert latency.tolist() == [10, 6, 4]
    assert stall.tolist() == [0, 5, 1]


def test_instructions_of_no_duration_take_no_time() -> None:
    spans = [("dma0", 0, 0, 0), ("dma0", 0, 5, 1), ("dma0", 5, 5, 2), ("dma0", 8, 8, 2)]
    latency, stall = attribute_ps(*timed(spans))
    assert latency.tolist() == [0, 5, 3]
    assert stall.tolist() == [0, 0, 3]


def several_ops(instructions: int = 200, ops: int = 4, bound_ps: int = 0) -> Program:
    program = synthetic_program(instructions)
    op = (np.arange(len(program)) * ops // len(program)).astype(np.int32)
    records = tuple(
        OpRecord(
            f"block/{i}",
            "attention",
            (f"MatMul_{i}",),
            "block",
            7,
            EngineBounds(bound_ps),
            tile="m256",
        )
        for i in range(ops)
    )
    return replace(program, columns=replace(program.columns, op=op), ops=records)


def test_ops_add_up_to_the_component() -> None:
    program = several_ops()
    timeline = simulate(program, MACHINE)
    component = component_latency(program, MACHINE, timeline)
    assert component == component_latency(program, MACHINE)
    assert component.latency_ps == timeline.total_ps == sum(o.latency_ps for o in component.ops)
    for kind in (EngineKind.TENSOR, EngineKind.VECTOR, EngineKind.DMA):
        assert component.busy_ps[kind] == sum(op.busy_ps[kind] for op in component.ops) > 0
    assert component.dram_read_bytes == sum(op.dram_read_bytes for op in component.ops)
    assert component.instructions == sum(op.instructions for op in component.ops) == 200
    assert component.dram_read_bytes == component.dram_write_bytes == 40 * 256 * 64 * 2
    stalls = sum(ps for _, ps in component.stalls_ps)
    assert sum(
        component.busy_ps.values()
    ) + stalls + component.idle_ps == component.latency_ps * len(timeline.engines)


def test_an_op_without_instructions_is_listed_with_zeros() -> None:
    program = several_ops()
    program = replace(program, ops=(*program.ops, OpRecord("fused_away", "silu", ())))
    op = component_latency(program, MACHINE).ops[-1]
    assert (op.name, op.latency_ps, op.instructions, op.ratio) == ("fused_away", 0, 0, None)


def test_bounds_of_overlapping_ops_add_up_by_engine() -> None:
    program = several_ops(ops=2)
    bytes_bound_ps = 200_000
    compute = OpRecord(
        "compute", "attention", (), least=EngineBounds(3_000_000, 20, bytes_bound_ps)
    )
    move = OpRecord("move", "copy", (), least=EngineBounds(0, 10, bytes_bound_ps))
    component = component_latency(replace(program, ops=(compute, move)), MACHINE)
    assert component.serial_bound_ps == 3_000_000 + bytes_bound_ps
    assert component.bound_ps == 3_000_000
    heavy = replace(move, least=EngineBounds(dma_ps=4_000_000))
    component = component_latency(replace(program, ops=(compute, heavy)), MACHINE)
    assert component.bound_ps == 4_000_000 + bytes_bound_ps  # what the other one moves as well


def test_bounds_hold_and_violations_are_reported() -> None:
    program = several_ops()
    op = component_latency(program, MACHINE).ops[1]
    assert op.reached_ps == max(op.latency_ps, *op.busy_ps.values())

    def violations(bound_ps: int) -> list[str]:
        records = list(program.ops)
        records[1] = replace(records[1], least=EngineBounds(bound_ps))
        return bound_violations(component_latency(replace(program, ops=tuple(records)), MACHINE))

    assert violations(op.reached_ps) == []
    assert violations(op.reached_ps + op.instructions) == []  # a picosecond each of rounding
    (line,) = violations(op.reached_ps + op.instructions + 1)
    assert "op 'block/1'" in line
    assert f"bound of {op.reached_ps + op.instructions + 1} ps" in line
    assert len(violations(10**15)) == 2  # the component as well


def grouped() -> Program:
    """Four ops in two groups."""
    program = several_ops(bound_ps=1000)
    ops = tuple(replace(op, group=index // 2) for index, op in enumerate(program.ops))
    return replace(program, ops=ops, groups=(GroupRecord(8), GroupRecord()))


def test_groups_have_what_their_ops_have() -> None:
    program = grouped()
    component = component_latency(program, MACHINE)
    first, second = component.groups
    assert first.ops == ("block/0", "block/1")
    assert (first.stripe, second.stripe) == (8, 0)
    assert first.latency_ps == sum(op.latency_ps for op in component.ops[:2])
    assert first.bound_ps == 2000
    assert first.busiest_ps == max(
        sum(op.busy_ps[kind] for op in component.ops[:2]) for kind in EngineKind
    )
    assert first.ratio == first.reached_ps / 2000
    rows = PipelineLatency(((component, 1),)).to_json()["groups"]
    assert [row["group"] for row in rows] == [0, 1]
    assert rows[0]["ops"] == ["block/0", "block/1"]
    assert rows[0]["latency_ms"] == first.latency_ps / 1e9


def test_a_group_below_its_bound_is_reported() -> None:
    """Two ops of one engine cannot both take as long as they take together."""
    program = grouped()
    together = component_latency(program, MACHINE).groups[0].reached_ps
    ops = [replace(op, least=EngineBounds(together)) for op in program.ops[:2]]
    program = replace(program, ops=(*ops, *program.ops[2:]))
    (line,) = (
        line for line in bound_violations(component_latency(program, MACHINE)) if "group" in line
    )
    assert "group 0" in line


def test_a_component_below_the_bound_of_all_groups_is_reported() -> None:
    program = replace(several_ops(), fused=EngineBounds(vector_ps=10**15))
    (line,) = bound_violations(component_latency(program, MACHINE))
    assert "below its bound over all groups" in line


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: replace(p, groups=p.groups[:1]),
        lambda p: replace(p, groups=()),
        lambda p: replace(p, groups=(GroupRecord(8, rolling=(10**6,)), GroupRecord())),
        lambda p: replace(p, residents=(ResidentRecord(10**6, 0, 1, 8),)),
        lambda p: replace(p, residents=(ResidentRecord(0, 0, 1, 8, over=10**6),)),
        lambda p: replace(p, residents=(ResidentRecord(0, 0, 2, 8),)),
    ],
)
def test_a_damaged_table_of_groups_is_refused(damage: Callable[[Program], Program]) -> None:
    with pytest.raises(InputError, match="table of groups is damaged"):
        component_latency(damage(grouped()), MACHINE)


def test_ratio() -> None:
    program = several_ops(bound_ps=1_000_000)
    op = component_latency(program, MACHINE).ops[0]
    assert op.ratio == op.reached_ps / 1_000_000


def test_pipeline_totals_and_json() -> None:
    program = several_ops(bound_ps=1000)
    parts = [
        (component_latency(replace(program, component=name), MACHINE), count)
        for name, count in (("text_encoder", 1), ("unet", 2), ("vae_decoder", 1))
    ]
    pipeline = PipelineLatency(tuple(parts))
    once = parts[0][0]
    assert pipeline.total_ps == 4 * once.latency_ps
    data = json.loads(json.dumps(pipeline.to_json()))
    assert data["schema_version"] == 1
    assert data["pipeline"]["total_ms"] == pipeline.total_ps / 1e9 == pipeline.total_ms
    assert list(data["components"]) == ["text_encoder", "unet", "vae_decoder"]
    unet = data["components"]["unet"]
    assert unet["evaluations"] == 2
    fixed = (
        "latency_ms", "bound_ms", "tensor_busy_ms", "vector_busy_ms", "dma_busy_ms",
        "dram_read_bytes", "dram_write_bytes", "instructions",
    )  # fmt: skip
    assert set(fixed) <= set(unet)
    assert unet["latency_ms"] == once.latency_ms == once.latency_ps / 1e9
    assert unet["bound_ms"] == once.bound_ms
    assert len(data["ops"]) == 12
    first = data["ops"][0]
    assert (first["component"], first["name"], first["tile"]) == ("text_encoder", "block/0", "m256")
    assert first["origin"] == ["MatMul_0"]
    assert sum(o["latency_ms"] for o in data["ops"]) == pytest.approx(3 * once.latency_ms)


def test_instructions_need_an_op() -> None:
    with pytest.raises(InputError, match=r"instruction 0 .*unknown op 0"):
        component_latency(replace(synthetic_program(5), ops=()), MACHINE)


@pytest.mark.parametrize(
    ("components", "label"),
    [
        (("text_encoder", "unet", "vae_decoder"), "one image"),
        (("unet",), "one image, unet alone"),
        (("text_encoder", "vae_decoder"), "one evaluation of text_encoder and vae_decoder"),
        (("model",), "one evaluation of model"),
    ],
)
def test_a_total_is_of_an_image_where_something_denoises(
    components: tuple[str, ...], label: str
) -> None:
    assert total_label(components) == label
