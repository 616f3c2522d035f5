"""Attention that streams K and V: the search finds the best tiling, and knows its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product

import pytest

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.lower import candidates_of, context_of, lower
from edgefusion.compiler.lowering.rehearsal import rehearse
from edgefusion.compiler.lowering.rule import OpContext, Tiling, tiling
from edgefusion.compiler.lowering.tile_search import lowered_kind
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.ops.attention import Attention
from edgefusion.compiler.schedule.dependences import Region
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.isa import Space
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.simulator import simulate
from edgefusion.runtime.target import load_target
from tests.fp16_reference import half_network
from tests.lowering_cases import attention_case

MACHINE = load_target("exynos2400").machine
KIB = 1 << 10
PIPELINED, MLT = schedule_named("pipelined"), schedule_named("mlt")
DECODER = half_network(attention_case(4096, 4096, heads=1, depth=512))
SEVERAL = half_network(attention_case(2048, 2048, heads=4, depth=64))
SMALL = half_network(attention_case(1024, 1024, heads=1, depth=256))
INTEGER = attention_case(512, 1024, heads=1, depth=64)


def streamed(queries: int, keys: int, values: int, copies: int, block: int) -> Tiling:
    return tiling(
        queries=queries, keys=keys, values=values, copies=copies, block=block, queries_ahead=0
    )


def every_tiling(context: OpContext) -> Iterator[Tiling]:
    """All that fill SRAM, of more sizes than the search tries: query tiles that are not even, tiles
    of K that leave room, any number of slots."""
    kind, sram_bytes = context.op.kind, context.machine.sram_bytes
    assert isinstance(kind, Attention)
    queries, keys, width = (
        context.tensors["q"].shape[1],
        context.tensors["k"].shape[1],
        context.tensors["v"].shape[2] // kind.heads,
    )
    for size in range(64, queries + 1, 32):
        if sram_bytes < 3 * size * keys * 2 and size * keys * 2 < sram_bytes:
            sizes = product((1, 2, 4), range(64, keys, 64), (2, 3, 4, 5, 6, 8), (1, 2, 3))
            for part, tile, copies, blocks in sizes:
                if 0.8 < (copies * tile * width + size * keys) * 2 / sram_bytes < 1:
                    block = -(-size // blocks // 16) * 16
                    yield streamed(size, tile, width // part, copies, block)


def taken_bytes(context: OpContext, t: Tiling) -> int:
    """SRAM that a tiling takes, up to the buffer that does not fit."""
    emitter = Emitter(ProgramBuilder("fit", "", ""), context.machine, PIPELINED, dry=True)
    emitter.begin(0, "fit", PIPELINED.slots)
    assert isinstance(context.op.kind, Attention)
    try:
        context.op.kind.emit(emitter, context, t)
    except DoesNotFitError:
        assert emitter.sram_peak_bytes > context.machine.sram_bytes
    return emitter.sram_peak_bytes


def scheduled_ps(context: OpContext, t: Tiling) -> int:
    """What the op takes by itself."""

    def emit(e: Emitter) -> None:
        e.begin(0, context.op.name, PIPELINED.slots)
        lowered_kind(context.op).emit(e, context, t)

    return rehearse(emit, context.machine, PIPELINED).total_ps


@pytest.mark.parametrize(("network", "kib"), [(SMALL, 1280), (INTEGER, 448)], ids=["fp16", "int16"])
def test_the_choice_is_within_a_hundredth_of_the_best(network: Network, kib: int) -> None:
    machine = MACHINE.with_values(sram_bytes=kib * KIB)
    context = context_of(network, network.ops[0], machine, PIPELINED)
    best = candidates_of(network, "attention", machine, PIPELINED)[0]
    tried = [
        t
        for t in every_tiling(context)
        if 0.93 * machine.sram_bytes < taken_bytes(context, t) <= machine.sram_bytes
    ]
    assert len(tried) > 100
    least = min(tried, key=lambda t: scheduled_ps(context, t))
    assert best.time_ps <= 1.01 * scheduled_ps(context, least), least


def test_the_decoder_reads_k_and_v_eight_times() -> None:
    """Scores of 592 rows would fit, but then too little of V to come while they are in the
    softmax. The time of the search is that of the program."""
    best = candidates_of(DECODER, "attention", MACHINE, PIPELINED)[0]
    assert best.tiling == streamed(512, keys=512, values=256, copies=3, block=256)
    assert best.dma_bytes == (8 * 2 + 2) * 4096 * 512 * 2
    program = lower(DECODER, MACHINE, PIPELINED).program
    assert program.ops[0].tile == str(best.tiling)
    assert best.time_ps == pytest.approx(simulate(program, MACHINE).total_ps, rel=1e-3)
    assert best.time_ps < 6.2e9


def test_heads_come_one_at_a_time_where_two_leave_scores_no_room() -> None:
    """K and V pass once, and the softmax of one tile is beside the products of another."""
    machine = MACHINE.with_values(sram_bytes=960 * KIB)
    best, *others = candidates_of(SEVERAL, "attention", machine, PIPELINED)
    assert best.tiling == tiling(queries=48, keys=2048, heads_ahead=0)
    assert best.dma_bytes == 4 * 2048 * 256 * 2
    assert min(c.time_ps for c in others if "values" in str(c.tiling)) > 1.3 * best.time_ps
    result = simulate(lower(SEVERAL, machine, PIPELINED).program, machine)
    assert best.time_ps == pytest.approx(result.total_ps, rel=1e-3)
    plenty = simulate(lower(SEVERAL, MACHINE, PIPELINED).program, MACHINE)
    assert result.total_ps < 1.25 * plenty.total_ps


@pytest.mark.parametrize("name", ["mlt", "pipelined"])
def test_more_sram_is_never_slower(name: str) -> None:
    """Also where K and V begin to fit whole, beside few scores."""
    times = []
    for kib in (512, 1024, 1152, 1280, 2048):
        machine = MACHINE.with_values(sram_bytes=kib * KIB)
        program = lower(SMALL, machine, schedule_named(name)).program
        times.append(simulate(program, machine).total_ps)
    assert all(later <= 1.005 * before for before, later in pairwise(times))
    assert times[-1] < times[0] / 2


@pytest.mark.parametrize(
    ("there", "buffers"),
    [
        ("", {"kv[0]", "kv[1]", "kv[2]", "q", "scores"}),
        ("kv", {"q", "scores", "y"}),
        ("kvy", {"q", "scores"}),
        ("k", {"kv[0]", "kv[1]", "kv[2]", "q", "scores"}),
    ],
)
def test_what_lies_in_sram_needs_no_room_to_pass(there: str, buffers: set[str]) -> None:
    context = context_of(SMALL, SMALL.ops[0], MACHINE, PIPELINED)
    views = {name: in_sram(context.view(name)) for name in there}
    context = replace(context, views={**context.views, **views})
    emitter = Emitter(ProgramBuilder("case", "", ""), MACHINE, PIPELINED, dry=True)
    emitter.begin(0, "op", PIPELINED.slots)
    kind = context.op.kind
    assert isinstance(kind, Attention)
    kind.emit(emitter, context, streamed(256, keys=256, values=256, copies=3, block=128))
    assert {label.removeprefix("op:") for label in emitter.requests} == buffers


def in_sram(view: View) -> View:
    """The same tensor there, at any address."""
    return View(view.operand._replace(space=Space.SRAM), Region(partial=True))


def test_a_long_op_is_timed_by_its_beginning() -> None:
    """Thousands of instructions are not scheduled for each candidate, and the best is still told
    from the one that the first would have been."""
    machine = MACHINE.with_values(sram_bytes=640 * KIB)
    network = half_network(attention_case(24576, 1024, heads=1, depth=256))
    context = context_of(network, network.ops[0], machine, PIPELINED)
    kind = lowered_kind(context.op)
    timed = [c for c in candidates_of(network, "attention", machine, PIPELINED) if not c.rejected]
    best = timed[0]
    assert best.instructions > 4_000
    short, count = kind.beginning(context, best.tiling, 4) or (context, 0)
    assert short.output().shape[0] == 4 * best.tiling["queries"]
    assert count == 24576 / (4 * best.tiling["queries"])
    assert best.time_ps == pytest.approx(scheduled_ps(context, best.tiling), rel=0.01)
    others = {c.time_ps for c in timed}
    assert len(others) > 8
