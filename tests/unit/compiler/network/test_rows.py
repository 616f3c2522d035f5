"""Rows: how stripes of neighbouring ops are counted, whatever the tensors' shapes."""

from __future__ import annotations

import pytest

from edgefusion.compiler.network.network import Network
from edgefusion.compiler.network.rows import (
    can_roll,
    row_axis,
    row_bytes,
    row_count,
    rows_needed,
    rows_per_index,
)
from edgefusion.compiler.network.window import Span
from tests.group_cases import ChainBuilder


@pytest.mark.parametrize(
    ("shape", "axis", "per_index"),
    [
        ((1, 8, 6, 5), 1, 6),
        ((1, 1, 6, 5), 2, 1),
        ((2, 8, 6, 5), 0, 48),
        ((1, 9, 5), 1, 1),
        ((7, 5), 0, 1),
        ((1, 1, 5), None, 1),
        ((5,), None, 1),
    ],
)
def test_stripes_are_cut_along_the_first_axis_of_more_than_one_element(
    shape: tuple[int, ...], axis: int | None, per_index: int
) -> None:
    assert row_axis(shape) == axis
    assert rows_per_index(shape) == per_index


def test_a_tensor_is_a_matrix_of_rows() -> None:
    c = ChainBuilder()
    tensor = c.b.tensors[c.input(1, 8, 6, 5)]
    assert row_count(tensor) == 48
    assert row_bytes(tensor) == 10


def needed(network: Network, start: int, size: int) -> dict[str, Span]:
    return rows_needed(network.ops[-1], network.tensors, Span(start, size))


def test_windows_read_whole_lines_with_their_halo() -> None:
    c = ChainBuilder()
    x = c.input(1, 8, 6, 3)
    network = c.build(c.conv(x, 4))
    assert needed(network, 0, 12) == {x: Span(0, 3 * 6)}
    assert needed(network, 12, 12) == {x: Span(6, 4 * 6)}
    assert needed(network, 36, 12) == {x: Span(5 * 6, 3 * 6)}
    # A part of a line needs what the line needs.
    assert needed(network, 13, 3) == {x: Span(6, 3 * 6)}


def test_strides_and_upsampling_count_lines_of_their_own() -> None:
    c = ChainBuilder()
    x = c.input(1, 8, 6, 3)
    assert needed(c.build(c.conv(x, 4, stride=2)), 3, 3) == {x: Span(6, 3 * 6)}
    c = ChainBuilder()
    x = c.input(1, 8, 6, 3)
    assert needed(c.build(c.conv(x, 4, upsample=2)), 0, 2 * 12) == {x: Span(0, 2 * 6)}


def test_operands_of_epilogues_are_needed_by_rows_and_weights_whole() -> None:
    c = ChainBuilder()
    x, residual = c.input(1, 8, 6, 3), c.input(1, 8, 6, 4)
    assert needed(c.build(c.conv(x, 4, kernel=1, add=residual)), 6, 12) == {
        x: Span(6, 12),
        residual: Span(6, 12),
    }


def test_keys_and_values_are_needed_whole() -> None:
    c = ChainBuilder()
    q, k = c.input(1, 8, 4), c.input(1, 5, 4)
    network = c.build(c.attention(q, k, k, 1))
    assert needed(network, 2, 3) == {q: Span(2, 3)}
    c = ChainBuilder()
    q = c.input(1, 8, 4)
    assert needed(c.build(c.attention(q, q, q, 1)), 2, 3) == {}


def test_what_cannot_roll() -> None:
    c = ChainBuilder()
    x = c.input(1, 8, 6, 4)
    own = c.group_norm(x)
    made = c.conv(own, 4, stats=True)
    given = c.group_norm(made)
    vector = c.linear(c.input(1, 1, 4), 4)
    network = c.build(given, vector)
    rolls = {op.outputs[0]: can_roll(op, network.tensors) for op in network.ops}
    # One row has no stripes; a norm that makes its own sums reads all of x first.
    assert rolls == {own: False, made: True, given: True, vector: False}
