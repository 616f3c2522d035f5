"""Transposed convolutions by phases, against ONNX Runtime, and however they are cut."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import onnx
import pytest

from edgefusion.compiler.frontend.from_graph import network_from_graph
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.lowering.lower import candidates_of, lower
from edgefusion.compiler.lowering.rule import Tiling, tiling
from edgefusion.compiler.lowering.tile_search import Candidate
from edgefusion.compiler.ops.transposed_conv import Phases, TransposedConv
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.isa import DType
from edgefusion.runtime.program import Program
from edgefusion.runtime.simulator import simulate
from tests.fp16_reference import draw, evaluate, half_network
from tests.graph_cases import CONTEXT, execute, parse, random_feeds
from tests.lowering_cases import transposed_conv_case
from tests.whole_graphs import agrees, on_npu

MACHINE = CONTEXT.machine


@dataclass(frozen=True)
class Case:
    """ONNX's attributes of a transposed convolution, and its input's rows and columns."""

    size: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    added: tuple[int, int] = (0, 0)

    def model(self, rest: str) -> onnx.ModelProto:
        """``rest`` follows the weights among the operands, and what computes y from u."""
        rows, columns = (
            (self.size[i] - 1) * self.strides[i]
            + self.kernel[i]
            - self.pads[i]
            - self.pads[i + 2]
            + self.added[i]
            for i in (0, 1)
        )
        return parse(
            f"g (float[1, 6, {self.size[0]}, {self.size[1]}] x) => "
            f"(float[1, 10, {rows}, {columns}] y) {{ u = ConvTranspose<strides = "
            f"{list(self.strides)}, pads = {list(self.pads)}, "
            f"output_padding = {list(self.added)}>(x, w{rest} }}",
            {"w": (6, 10, *self.kernel), "b": (10,), "b3": (10, 1, 1), "v": (10, 10, 1, 1)},
        )


CASES = (
    Case((7, 5), (4, 4), (2, 2), (1, 1, 1, 1)),
    Case((5, 6), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    Case((4, 5), (5, 4), (3, 2), (2, 0, 1, 3)),
    Case((3, 4), (2, 3), (2, 3)),
    Case((6, 1), (3, 2), (1, 2), (0, 1, 2, 0)),
    Case((1, 1), (7, 6), (3, 5), (6, 5, 0, 0)),
)


@pytest.mark.parametrize("precision", ["fp16", "w8a16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_computes_what_onnx_runtime_does(case: Case, precision: str) -> None:
    model = case.model(", b) a = Relu(u) y = Conv(a, v)")
    feeds = random_feeds(model)
    (wanted,) = execute(model, feeds)
    for found in on_npu(model, feeds, precision, ["serial", "pipelined"]).values():
        assert agrees(found["y"], wanted, precision)


def test_it_runs_on_the_npu_with_what_follows() -> None:
    model = CASES[0].model(") a = Add(u, b3) c = Relu(a) y = Conv(c, v)")
    graph = Graph.from_model(model)
    PassManager(default_passes("w8a16")).run(graph, CONTEXT)
    network = network_from_graph(graph, "model")
    (op,) = (op for op in network.ops if isinstance(op.kind, TransposedConv))
    assert all(op.kind.on_npu for op in network.ops)
    assert [step.function for step in op.epilogue] == ["relu"]
    assert isinstance(op.kind, TransposedConv)
    assert op.kind.bias
    filters = network.tensor(op.kind.w)
    assert (filters.shape, filters.dtype) == ((10, 6, 4, 4), DType.INT8)
    assert network.tensor(filters.scale_tensor).shape == (10,)


def cut(
    rows: int, columns: int, channels: int, outer: str, lines: int = 0, sweeps: int = 1
) -> Tiling:
    made = tiling(rows=rows, columns=columns, channels=channels, outer=outer)
    more = {"lines": lines, "sweeps": sweeps if sweeps > 1 else 0}
    return Tiling((*made.values, *((name, value) for name, value in more.items() if value)))


NETWORK = half_network(
    transposed_conv_case(
        9, 9, 24, 80, kernel=(3, 5), strides=(2, 3), pads=(1, 2, 1, 1), epilogue=False
    )
)
WHOLE = cut(17, 26, 80, "weights")


def cut_as(chosen: Tiling, patch: pytest.MonkeyPatch) -> tuple[Program, Candidate]:
    """The program with this tiling, and what the search thought of it."""
    patch.setattr(TransposedConv, "tilings", lambda *_: iter([chosen]))
    serial = schedule_named("serial")
    (candidate, *_) = candidates_of(NETWORK, "conv", MACHINE, serial)
    assert candidate.tiling == chosen
    return lower(NETWORK, MACHINE, serial).program, candidate


@pytest.mark.parametrize(
    "chosen",
    [
        WHOLE,
        cut(3, 26, 32, "weights"),
        cut(5, 7, 24, "weights"),
        cut(1, 1, 80, "weights"),
        cut(8, 26, 32, "weights_once", 3),
        cut(7, 26, 80, "weights", 2),
        cut(6, 5, 16, "rows", 4),
        cut(17, 26, 32, "rows_weights", 1),
        cut(7, 26, 64, "weights", sweeps=2),  # 64 and 16 channels
        cut(5, 26, 32, "rows_weights", 3, sweeps=2),
        cut(4, 26, 32, "weights", sweeps=3),
    ],
    ids=str,
)
def test_no_cut_changes_a_bit_or_takes_other_than_estimated(
    chosen: Tiling, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, constants = draw(NETWORK)
    whole, _ = cut_as(WHOLE, monkeypatch)
    program, candidate = cut_as(chosen, monkeypatch)
    assert simulate(program, MACHINE).total_ps == candidate.time_ps
    assert len(program) == candidate.instructions
    wanted, found = (
        Executor(each, MACHINE, constants).run(inputs).outputs["y"] for each in (whole, program)
    )
    np.testing.assert_array_equal(found, wanted)
    expected, tolerance = evaluate(NETWORK, inputs | constants)
    assert (np.abs(found - expected) <= tolerance).all()


def test_phases_meet_each_tap_of_each_pixel_once() -> None:
    for extent, kernel, stride, pad in itertools.product((1, 4), (3, 5), (1, 2, 3), (0, 1, 2)):
        length = (extent - 1) * stride + kernel - pad
        met = np.zeros((length, extent, kernel), int)
        for start, size in ((0, length // 2), (length // 2, length - length // 2)):
            for part in Phases(extent, kernel, stride, pad).parts(start, size):
                source = part.source
                for n in range(part.size):
                    for tap in range(part.taps):
                        at = n + tap - source.pad_before
                        if 0 <= at < source.span.size:
                            y = start + part.first + n * stride
                            met[y, source.span.start + at, part.tap + tap * stride] += 1
        wanted = np.zeros_like(met)
        for x, tap in itertools.product(range(extent), range(kernel)):
            if 0 <= x * stride + tap - pad < length:
                wanted[x * stride + tap - pad, x, kernel - 1 - tap] = 1
        np.testing.assert_array_equal(met, wanted)
