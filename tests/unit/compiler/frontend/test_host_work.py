"""Counts of what the host computes, against products of sizes worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from edgefusion.compiler.frontend.host_work import (
    FUNCTION_OPERATIONS,
    HostWorkload,
    host_workload,
)
from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.passes.split_batch import MAX_IMAGES
from tests.graph_cases import CONTEXT, parse

F = FUNCTION_OPERATIONS
N = MAX_IMAGES + 1
IMAGES = f"float[{N}, 6, 8, 8]"
"""More than are taken apart for the NPU."""
TRANSPOSED = N * 4 * 36
"""Back from channels last; the way there has too many values to be drawn to the host."""
CASES: dict[str, tuple[str, Any, int, int]] = {
    "conv": (
        f"g ({IMAGES} x) => (float[{N}, 4, 6, 6] y) {{ y = Conv(x, w) }}",
        {"w": (4, 6, 3, 3)},
        N * 4 * 36 * (6 * 9 + 1) + TRANSPOSED,
        4 * 4 * 6 * 9,
    ),
    "grouped": (
        f"g ({IMAGES} x) => (float[{N}, 4, 6, 6] y) {{ y = Conv<group = 2>(x, w) }}",
        {"w": (4, 3, 3, 3)},
        N * 4 * 36 * (3 * 9 + 1) + TRANSPOSED,
        4 * 4 * 3 * 9,
    ),
    "transposed": (
        (f"g ({IMAGES} x) => (float[{N}, 4, 17, 17] y) "
        "{ y = ConvTranspose<strides = [2, 2]>(x, w) }"),
        {"w": (6, 4, 3, 3)},
        N * 6 * 64 * 4 * 9 + N * 4 * 17 * 17,
        4 * 6 * 4 * 9,
    ),
    "product": (
        "g (float[2, 3, 5, 4, 6] x) => (float[2, 3, 5, 4, 7] y) { y = MatMul(x, w) }",
        {"w": (6, 7)},
        2 * 3 * 5 * 4 * 7 * (6 + 1),
        4 * 6 * 7,
    ),
    "einsum": (
        ("g (float[2, 3, 5] x, float[2, 5, 4] w) => (float[3, 4] y) "
        '{ y = Einsum<equation = "bij, bjk -> ik">(x, w) }'),
        {},
        2 * 3 * 5 * 4 + 12,
        0,
    ),
    "attention": (
        ("g (float[1, 8, 6] q, float[1, 9, 6] k, float[1, 9, 6] v, float[1] m) => "
        "(float[1, 8, 6] y) { t = Transpose<perm = [0, 2, 1]>(k) s = MatMul(q, t) a = Add(s, m) "
        "p = Softmax(a) y = MatMul(p, v) }"),
        {},
        8 * 9 * (6 + 6 + F) + 8 * 6,
        0,
    ),
    "recurrent": (
        "g (float[4, 1, 3] x) => (float[4, 1, 1, 5] y) { y = GRU<hidden_size = 5>(x, w, r) }",
        {"w": (1, 15, 3), "r": (1, 15, 5)},
        4 * (15 * 3 + 15 * 5) + 20,
        4 * (15 * 3 + 15 * 5),
    ),
    "look_up": (
        "g (int64[5] i) => (float[5, 64] y) { y = Gather(table, i) }",
        {"table": (1000, 64)},
        5 * 64,
        0,
    ),
    "function": ("g (int32[30] x) => (int32[30] y) { y = Pow(x, x) }", {}, 30 * F, 0),
    "sorted": (
        "g (float[3, 64] x) => (float[3, 2] y) <int64[1] k = {2}> { y, i = TopK(x, k) }",
        {},
        3 * 64 * 6,
        8,
    ),
    "views": ("g (int32[3, 4] x) => (int32[4, 3] y) <int64[2] s = {4, 3}> { y = Reshape(x, s) }",
              {}, 0, 16),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_counts(name: str) -> None:
    text, weights, operations, constant_bytes = CASES[name]
    graph = Graph.from_model(parse(text, weights))
    PassManager(default_passes("fp16")).run(graph, CONTEXT)
    hosted = [node for node in graph.nodes if node.annotations.get("host_partition")]
    assert hosted, "the case does not run on the host"
    assert host_workload(hosted) == HostWorkload(operations, constant_bytes)
