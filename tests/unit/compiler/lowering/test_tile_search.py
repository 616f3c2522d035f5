"""The tile search: reasons for rejection, fallbacks, and that the best is the best."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.compiler.lowering import tile_search
from edgefusion.compiler.lowering.lower import candidates_of, lower
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.simulator import simulate
from edgefusion.runtime.target import load_target
from tests.group_cases import ChainBuilder
from tests.lowering_cases import attention_case, conv_case, matmul_case

MACHINE = load_target("exynos2400").machine
MLT = schedule_named("mlt")


def test_attention_takes_the_largest_query_tile_that_fits() -> None:
    found = candidates_of(attention_case(4096, 4096, 8, 40), "attention", MACHINE, MLT)
    fitting = [c for c in found if not c.rejected]
    assert found[0].tiling["queries"] == max(c.tiling["queries"] for c in fitting)
    too_big = [c for c in found if "more than the SRAM" in c.rejected]
    assert {c.tiling["queries"] for c in too_big} >= {4096, 2048, 1024}
    assert all(c.sram_bytes > MACHINE.sram_bytes for c in too_big)


def test_candidates_are_ordered_by_time_and_all_explained() -> None:
    found = candidates_of(conv_case(), "conv", replace(MACHINE, sram_bytes=100_000), MLT)
    fitting = [c for c in found if not c.rejected]
    assert [c.time_ps for c in fitting] == sorted(c.time_ps for c in fitting)
    assert all(c.time_ps > 0 and c.dma_bytes > 0 and c.instructions > 0 for c in fitting)
    assert all(c.rejected for c in found[len(fitting) :])
    assert all(c.sram_bytes <= 100_000 for c in fitting)


def test_wide_heads_stream_their_keys() -> None:
    network = attention_case(4096, 4096, heads=1, depth=512)
    best = candidates_of(network, "attention", MACHINE, MLT)[0]
    assert not best.rejected
    assert best.tiling["keys"] < 4096


def test_candidates_of_what_a_program_does_as_one() -> None:
    c = ChainBuilder()
    network = c.build(c.linear(c.glu(c.linear(c.input(1, 96, 32), 256)), 32))
    machine = MACHINE.with_values(sram_bytes=24 * 1024, dma_bandwidth_bytes_per_s=2e9)
    pipelined = schedule_named("pipelined")
    record = lower(network, machine, pipelined).program.ops[0]
    assert (record.name, record.kind) == ("matmul1", "gated_matmul"), "choose another size"
    found = candidates_of(network, record.name, machine, pipelined, record.kind)
    assert record.tile in [str(c.tiling) for c in found if not c.rejected]
    assert {c.tiling["channels"] for c in found} == {64, 128}, "half the columns of the product"
    apart = candidates_of(network, record.name, machine, pipelined)
    assert max(c.tiling["channels"] for c in apart) == 256
    with pytest.raises(InputError, match="nothing makes it a gated_matmul"):
        candidates_of(network, "matmul3", machine, pipelined, "gated_matmul")


def test_families_left_out_could_not_have_won() -> None:
    """Tiles that were not costed, as smaller ones of a family, are slower than the best."""
    for network in (conv_case(96, 96, 64, 128), matmul_case(2048, 320, 640)):
        machine = replace(MACHINE, sram_bytes=1 << 20)
        name = network.ops[0].name
        found = candidates_of(network, name, machine, MLT)
        best = simulate(lower(network, machine, MLT).program, machine).total_ps
        skipped = [c for c in found if c.rejected.startswith("not costed")]
        assert skipped
        for candidate in skipped:
            assert cost_of(network, candidate.tiling, machine) >= best


@pytest.mark.parametrize("engines", [1, 2])
@pytest.mark.parametrize("schedule", ["mlt", "pipelined"])
def test_families_left_off_early_hold_nothing_that_is_close(schedule: str, engines: int) -> None:
    """With all of each family costed as well, what is among the fastest is the same."""
    units = dict.fromkeys((EngineKind.TENSOR, EngineKind.VECTOR, EngineKind.DMA), engines)
    machine = replace(MACHINE, sram_bytes=1 << 20, engines={**MACHINE.engines, **units})
    skipped = 0
    for network in (conv_case(96, 96, 64, 128), conv_case(17, 23, 96, 72), matmul_case(2048)):
        name, how = network.ops[0].name, schedule_named(schedule)
        found = candidates_of(network, name, machine, how)
        with patch.object(tile_search, "CLOSE", float("inf")):
            every = candidates_of(network, name, machine, how)
        assert close(found) == close(every)
        costed, all_costed = (len([c for c in cs if not c.rejected]) for cs in (found, every))
        skipped += all_costed - costed
    assert skipped > 0


def close(found: list[tile_search.Candidate]) -> list[tile_search.Candidate]:
    """What may be preferred to the fastest, and it."""
    fitting = [c for c in found if not c.rejected]
    return [c for c in fitting if c.time_ps <= tile_search.CLOSE * fitting[0].time_ps]


def cost_of(network, tiling, machine):  # type: ignore[no-untyped-def]
    """Simulated time of a given tiling."""
    kind = type(network.ops[0].kind)
    with patch.object(kind, "tilings", lambda self, context: iter([tiling])):
        return simulate(lower(network, machine, MLT).program, machine).total_ps


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 200),
    st.integers(1, 5),
    st.integers(1, 48),
    st.integers(80_000, 400_000),
)
def test_attention_of_any_shape_is_predicted_exactly(
    queries: int, keys: int, heads: int, depth: int, sram_bytes: int
) -> None:
    machine = replace(MACHINE, sram_bytes=sram_bytes)
    network = attention_case(queries, keys, heads, depth)
    for name in ("serial", "mlt"):
        schedule = schedule_named(name)
        best = candidates_of(network, "attention", machine, schedule)[0]
        program = lower(network, machine, schedule).program
        assert best.time_ps == simulate(program, machine).total_ps
