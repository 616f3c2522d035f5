"""Which op collects the sums that a normalisation reads."""

from __future__ import annotations

from edgefusion.compiler.lowering.early_statistics import with_early_statistics
from edgefusion.compiler.network.network import NetOp, Network, statistics
from edgefusion.compiler.network.verify_network import verify_network
from edgefusion.compiler.ops.norm import GroupNorm
from tests.group_cases import ChainBuilder


def op_of(network: Network, name: str) -> NetOp:
    return next(op for op in network.ops if name in op.outputs)


def read_sums(network: Network) -> list[tuple[str, ...]]:
    return [op.kind.stats for op in network.ops if isinstance(op.kind, GroupNorm)]


def test_the_producer_collects() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, 8, 4), 16)
    network = with_early_statistics(c.build(c.conv(c.group_norm(x), 4)), 0)
    verify_network(network)
    assert read_sums(network) == [(f"{x}_stats",)]
    assert statistics(op_of(network, x)) == (f"{x}_stats",)


def test_producers_of_what_is_concatenated_collect_in_its_steps() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, 8, 4), 16, stats=True)
    h = c.conv(c.group_norm(x), 8)
    whole = c.concat(h, x)
    network = with_early_statistics(c.build(c.conv(c.group_norm(whole), 4)), 0)
    verify_network(network)
    own, parts = read_sums(network)
    assert len(own) == 1
    assert [network.tensor(name).shape for name in parts] == [(2, 8), (2, 16)]
    assert statistics(op_of(network, h)) == parts[:1]
    assert statistics(op_of(network, x)) == (*own, *parts[1:])
    assert {step.like for step in op_of(network, h).epilogue} == {whole}
    assert not op_of(network, whole).epilogue


def test_a_concatenation_of_what_nothing_makes_collects_itself() -> None:
    c = ChainBuilder()
    given = c.input(1, 8, 8, 4)
    whole = c.concat(c.conv(given, 8), given)
    network = with_early_statistics(c.build(c.conv(c.group_norm(whole), 4)), 0)
    (sums,) = read_sums(network)
    assert statistics(op_of(network, whole)) == sums
    assert all(not step.like for op in network.ops for step in op.epilogue)


def test_a_small_concatenation_collects_itself() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, 8, 4), 16)
    whole = c.concat(c.conv(x, 16), x)  # 4 KiB
    network = c.build(c.conv(c.group_norm(whole), 4))
    for sram_bytes, collects in ((8192, False), (8194, True)):
        made = op_of(with_early_statistics(network, sram_bytes), whole)
        assert bool(made.epilogue) == collects
