"""What is read before its place is taken."""

from __future__ import annotations

from edgefusion.compiler.lowering.op_order import with_early_readers
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.network.verify_network import verify_network
from tests.group_cases import ChainBuilder


def made(network: Network) -> list[str]:
    return [op.outputs[0] for op in network.ops]


def test_a_shortcut_comes_before_the_normalisation_of_what_it_reads() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, 8, 4), 16, stats=True)
    normed = c.group_norm(x)
    h = c.conv(normed, 8)
    shortcut = c.conv(x, 8)
    network = with_early_readers(c.build(c.conv(h, 8, add=shortcut)))
    verify_network(network)
    order = made(network)
    assert order.index(x) < order.index(shortcut) < order.index(normed) < order.index(h)


def test_a_reader_that_needs_the_result_stays_behind_it() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, 8, 4), 8, stats=True)
    network = c.build(c.conv(c.group_norm(x), 8, add=x))
    assert with_early_readers(network) == network


def test_several_readers_keep_their_order() -> None:
    c = ChainBuilder()
    x = c.conv(c.input(1, 8, 8, 4), 16, stats=True)
    normed = c.group_norm(x)
    first, second = c.conv(x, 8), c.conv(x, 8)
    h = c.conv(normed, 8, add=first)
    order = made(with_early_readers(c.build(c.conv(h, 8, add=second))))
    assert [each for each in order if each in (first, second, normed)] == [first, second, normed]
