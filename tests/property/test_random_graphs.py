"""Random graphs, compiled for every schedule and executed, against ONNX Runtime on the source.

A few in every run of the tests; set ``EDGEFUSION_RANDOM_GRAPHS`` to how many you want.
"""

from __future__ import annotations

import os

import pytest

from edgefusion.runtime.errors import EdgeFusionError
from tests.random_graphs import drawn_graph, execute
from tests.whole_graphs import agrees, on_npu

COUNT = int(os.environ.get("EDGEFUSION_RANDOM_GRAPHS", "16"))
REFUSED = 3
"""A refusal names a reason; more than one in so many would leave little tested."""


@pytest.mark.parametrize("precision", ["fp16", "w8a16"])
def test_random_graphs_are_right_or_refused_by_name(precision: str) -> None:
    refused = 0
    for seed in range(COUNT):
        drawn = drawn_graph(seed)
        wanted = execute(drawn.model, drawn.feeds)
        try:
            found = on_npu(drawn.model, drawn.feeds, precision)
        except EdgeFusionError:
            refused += 1
            continue
        names = [info.name for info in drawn.model.graph.output]
        for schedule, outputs in found.items():
            assert list(outputs) == names
            for name, expected in zip(names, wanted, strict=True):
                where = f"seed {seed}, {precision}, {schedule}, output {name}"
                assert agrees(outputs[name], expected, precision), where
    assert refused * REFUSED <= COUNT
