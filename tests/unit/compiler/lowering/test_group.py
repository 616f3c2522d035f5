"""Frontiers: which rows a step of a group computes, keeps and lets go."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.compiler.lowering.dram_views import scene_of
from edgefusion.compiler.lowering.group import may_join
from edgefusion.compiler.lowering.plan import Loop
from edgefusion.compiler.lowering.scene import Frontier, Scene, Step
from edgefusion.compiler.memory.dram import plan_dram
from edgefusion.compiler.network.network import NetOp, Network, operands
from edgefusion.compiler.network.rows import row_count
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.target import load_target
from tests.group_cases import ChainBuilder

MACHINE = load_target("exynos2400").machine
WIDTH = 2
"""Of all images: a line is two rows."""


def scene(network: Network) -> Scene:
    """Where tensors lie does not matter here."""
    return scene_of(plan_dram(network, MACHINE, schedule_named("pipelined")), MACHINE, {}, {})


def members(network: Network) -> list[NetOp]:
    return [op for op in network.ops if not op.kind.is_view]


def made_inside(ops: Sequence[NetOp], where: Scene) -> frozenset[str]:
    """Tensors that one of ``ops`` makes and another reads."""
    read = {where.root(name) for op in ops for name in operands(op)}
    return frozenset({where.root(op.outputs[0]) for op in ops} & read)


def steps_of(frontier: Frontier) -> list[Step]:
    total, stripe = frontier.total, frontier.loop.stripe
    return [frontier.step(at, min(total, at + stripe)) for at in range(0, total, stripe)]


def lines(network: Network, stripe_lines: int, **loop: frozenset[str]) -> list[Step]:
    """The steps of all ops of ``network`` as one group."""
    where, ops = scene(network), members(network)
    rolling = made_inside(ops, where)
    return steps_of(Frontier(ops, where, Loop(stripe_lines * WIDTH, rolling, **loop)))


def span(start: int, stop: int) -> Span:
    """Lines [start, stop), in rows."""
    return Span(start * WIDTH, (stop - start) * WIDTH)


def test_tensors_roll_in_the_same_order_every_time() -> None:
    """Sets of names have another order in each process; buffers are reserved in this one."""
    c = ChainBuilder()
    x = c.input(1, 8, WIDTH, 3)
    for _ in range(8):
        x = c.conv(x, 4)
    for step in lines(c.build(x), 2):
        assert list(step.stripes) == sorted(step.stripes)


def test_the_first_op_runs_ahead_by_the_halo_and_keeps_it() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, WIDTH, 3), 4)
    steps = lines(c.build(c.conv(x, 4)), 2)
    assert [s.spans for s in steps] == [
        (span(0, 3), span(0, 2)),
        (span(3, 5), span(2, 4)),
        (span(5, 7), span(4, 6)),
        (span(7, 8), span(6, 8)),
    ]
    assert [s.stripes[x] for s in steps] == [
        (0, span(0, 3)),
        (1 * WIDTH, span(3, 5)),
        (3 * WIDTH, span(5, 7)),
        (5 * WIDTH, span(7, 8)),
    ]


def test_a_ragged_last_stripe_is_smaller_everywhere() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 7, WIDTH, 3), 4)
    steps = lines(c.build(c.conv(x, 4, kernel=1)), 3)
    assert [s.spans for s in steps] == [
        (span(0, 3), span(0, 3)),
        (span(3, 6), span(3, 6)),
        (span(6, 7), span(6, 7)),
    ]


def test_under_an_upsampling_window_the_maker_rests() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 3, WIDTH // 2, 3), 4)
    steps = lines(c.build(c.conv(x, 4, upsample=2)), 1)
    made = [s.spans[0] for s in steps]
    assert [s.size for s in made] == [1, 1, 0, 1, 0, 0]
    # Line 2 of the result reads lines 0 and 1 of x, enlarged: line 0 is still there.
    assert [s.stripes[x][0] for s in steps] == [0, 0, 0, 1, 1, 2]


def test_under_a_strided_window_the_maker_takes_two_lines() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, WIDTH * 2, 3), 4)
    network = c.build(c.conv(x, 4, stride=2))
    steps = lines(network, 1)
    line = WIDTH * 2
    assert [s.spans[0] for s in steps] == [
        Span(0, 2 * line),
        *(Span(2 * n * line, 2 * line) for n in (1, 2, 3)),
    ]
    assert [s.stripes[x][0] // line for s in steps] == [0, 1, 3, 5]


def test_rows_stay_until_a_later_op_has_added_them() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, WIDTH, 3), 4, kernel=1)
    h = c.conv(c.conv(x, 4), 4)
    steps = lines(c.build(c.conv(h, 4, kernel=1, add=x)), 2)
    # x is made two lines ahead of the sum, for two halos; the sum still reads its own lines.
    assert [s.stripes[x] for s in steps] == [
        (0, span(0, 4)),
        (2 * WIDTH, span(4, 6)),
        (4 * WIDTH, span(6, 8)),
        (6 * WIDTH, span(8, 8)),
    ]


def test_what_is_stored_as_well_is_computed_in_full() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 9, WIDTH * 2, 3), 4)
    network = c.build(c.conv(x, 4, kernel=1, stride=2))
    for kept, last in ((frozenset[str](), 9), (frozenset({x}), 9)):
        steps = lines(network, 2, kept=kept)
        assert steps[-1].spans[0].stop == last * WIDTH * 2
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, WIDTH * 2, 3), 4)
    network = c.build(c.conv(x, 4, kernel=1, stride=2))
    assert lines(network, 2)[-1].spans[0].stop == 7 * WIDTH * 2  # nobody reads the last line
    assert lines(network, 2, kept=frozenset({x}))[-1].spans[0].stop == 8 * WIDTH * 2


def test_shared_operands_are_loaded_with_their_halo_once() -> None:
    c = ChainBuilder()
    x = c.input(1, 8, WIDTH, 3)
    steps = lines(c.build(c.conv(c.conv(x, 4), 4)), 2, shared=frozenset({x}))
    assert [s.stripes[x] for s in steps] == [
        (0, span(0, 4)),
        (2 * WIDTH, span(4, 6)),
        (4 * WIDTH, span(6, 8)),
        (6 * WIDTH, span(8, 8)),
    ]


@st.composite
def chains(draw: st.DrawFn) -> Network:
    """Convolutions of all kinds in a row, and sums over some of them."""
    c = ChainBuilder()
    x = c.conv(c.input(1, draw(st.integers(4, 14)), draw(st.integers(3, 6)), 2), 2)
    for _ in range(draw(st.integers(1, 4))):
        before = x
        kernel = draw(st.sampled_from([1, 3, 5]))
        scale = draw(st.sampled_from(["", "", "stride", "upsample"]))
        if scale and c.shape(x)[1] >= 4 and c.shape(x)[1] * c.shape(x)[2] < 200:
            stride, upsample = (2, 1) if scale == "stride" else (1, 2)
            x = c.conv(x, 2, kernel=kernel, stride=stride, upsample=upsample)
        else:
            x = c.conv(x, 2, kernel=kernel)
            if draw(st.booleans()):
                x = c.conv(x, 2, kernel=1, add=before)
    return c.build(x)


@settings(max_examples=150)
@given(chains(), st.integers(1, 6), st.booleans(), st.booleans())
def test_whatever_a_step_reads_is_there(
    network: Network, stripe_lines: int, shares: bool, keeps: bool
) -> None:
    where, ops = scene(network), members(network)
    assert may_join(ops, where)
    rolling = made_inside(ops, where)
    line = network.tensors[ops[-1].outputs[0]].shape[2]
    loop = Loop(
        stripe_lines * line,
        rolling,
        kept=rolling if keeps else frozenset(),
        shared=frozenset(network.inputs) if shares else frozenset(),
    )
    frontier = Frontier(ops, where, loop)
    steps = steps_of(frontier)
    for index, op in enumerate(ops):
        spans = [s.spans[index] for s in steps]
        # Each row once and in order, to the end where others want it.
        assert spans[0].start == 0
        assert all(a.stop == b.start for a, b in pairwise(spans))
        if op.outputs[0] not in rolling or keeps:
            assert spans[-1].stop == row_count(network.tensors[op.outputs[0]])
        for step, made in zip(steps, spans, strict=True):
            for name, need in where.rows_needed(op, made).items() if made.size else ():
                if name in step.stripes:
                    first, fresh = step.stripes[name]
                    assert first <= need.start
                    assert need.stop <= fresh.stop
    for name in loop.rolling | loop.shared:
        held = [s.stripes[name] for s in steps]
        for (first, fresh), (later, following) in pairwise(held):
            assert fresh.stop == following.start
            # What is kept was there before.
            if following.size:
                assert first <= later <= fresh.stop
    # Buffers are as large as any step needs, also those in the middle that nobody looked at.
    most, capacities = frontier.capacities
    for index in range(len(ops)):
        assert most[index] == max(s.spans[index].size for s in steps)
    for name, rows in capacities.items():
        assert rows == max(fresh.stop - first for s in steps for first, fresh in [s.stripes[name]])


def frontier_of(network: Network, **loop: frozenset[str]) -> Frontier:
    """Of all ops of ``network`` as one group, a line a step."""
    where, ops = scene(network), members(network)
    return Frontier(ops, where, Loop(WIDTH, made_inside(ops, where), **loop))


def test_what_an_activation_alone_reads_rolls_in_its_place() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, WIDTH, 4), 4)
    activated = c.unary(c.unary(x, "silu"), "relu")
    frontier = frontier_of(c.build(c.conv(activated, 4)))
    assert frontier.over == {x: activated, "t2": activated}
    _, held = frontier.capacities
    assert held == {activated: 3 * WIDTH}


def test_what_others_read_or_dram_takes_as_well_has_a_place_of_its_own() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, WIDTH, 4), 4)
    network = c.build(c.conv(c.unary(x, "silu"), 4))
    assert frontier_of(network).over == {x: "t2"}
    assert frontier_of(network, kept=frozenset({x})).over == {}
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, WIDTH, 4), 4)
    assert frontier_of(c.build(c.conv(c.unary(x, "silu"), 4, add=x))).over == {}


def test_sums_and_whole_operands_are_borders() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, WIDTH, 4), 4, stats=True)
    n = c.group_norm(x)
    network = c.build(c.conv(n, 4))
    where, (first, norm, last) = scene(network), members(network)
    assert may_join([norm, last], where)
    assert not may_join([first, norm], where)
    assert not may_join([first, last], where)  # nothing in common
    c = ChainBuilder()
    q = c.linear(c.input(1, 8, 4), 4)
    network = c.build(c.linear(c.attention(q, q, q, 1), 4))
    where, (project, attend, _) = scene(network), members(network)
    assert not may_join([project, attend], where)  # every query reads all keys
