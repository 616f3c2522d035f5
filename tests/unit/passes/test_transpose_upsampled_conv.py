"""transpose-upsampled-conv: exact at all borders, and only where it is faster."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.channels_last import ChannelsLast
from edgefusion.passes.fold_resize import FoldResize
from edgefusion.passes.fuse_epilogue import FuseEpilogue
from edgefusion.passes.pass_base import Pass
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.passes.transpose_upsampled_conv import TransposeUpsampledConv
from edgefusion.runtime.machine import Machine
from tests.graph_cases import CONTEXT, Outcome, parse
from tests.layout_cases import chained, reasons

DOUBLED = (
    'r = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", '
    'nearest_mode = "floor">(x, , s)'
)
FAST = CONTEXT.machine.with_values(
    dma_bandwidth_bytes_per_s=1e15,
    tensor_macs_per_cycle=1,
    tensor_fill_cycles=0.0,
    tensor_granularity_m=1,
    tensor_granularity_n=1,
    tensor_granularity_k=1,
)
"""Nothing counts but multiplications."""


def rewritten(
    body: str,
    shape: str,
    w: tuple[int, ...] = (8, 8, 3, 3),
    *behind: Pass,
    machine: Machine = FAST,
) -> Outcome:
    passes = [ChannelsLast(), FoldResize(), TransposeUpsampledConv(), *behind]
    return chained(
        passes,
        f"g (float[1, 8, 5, 3] x) => (float[{shape}] y) <float[4] s = {{1, 1, 2, 2}}> "
        f"{{ {DOUBLED} {body} }}",
        {"w": w, "b": (w[0],)},
        machine=machine,
    )


@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 0, 0, 0), (2, 0, 1, 2), (0, 2, 2, 0)])
@pytest.mark.parametrize("bias", ["", ", b"])
def test_every_border_keeps_its_values(pads: tuple[int, ...], bias: str) -> None:
    rows, columns = 10 + pads[0] + pads[2] - 2, 6 + pads[1] + pads[3] - 2
    outcome = rewritten(f"y = Conv<pads = {list(pads)}>(r, w{bias})", f"1, 8, {rows}, {columns}")
    assert f"ConvTransposeLast{'_bias' if bias else ''}" in outcome.ops
    assert outcome.graph.nodes[1].origin == ("Resize_r", "Conv_y")


@pytest.mark.parametrize("kernel", [(2, 2), (3, 2), (5, 5), (1, 3)])
def test_kernels_of_any_size(kernel: tuple[int, int]) -> None:
    rows, columns = 11 - kernel[0], 7 - kernel[1]
    outcome = rewritten("y = Conv(r, w)", f"1, 4, {rows}, {columns}", (4, 8, *kernel))
    assert "ConvTransposeLast" in outcome.ops


def test_epilogues_follow() -> None:
    outcome = rewritten(
        "c = Conv<pads = [1, 1, 1, 1]>(r, w, b) y = Relu(c)",
        "1, 8, 10, 6",
        (8, 8, 3, 3),
        FuseEpilogue(),
    )
    assert "ConvTransposeLast_bias_relu" in outcome.ops


def test_sums_of_taps_are_rounded_once() -> None:
    outcome = rewritten("y = Conv<pads = [1, 1, 1, 1]>(r, w)", "1, 8, 10, 6")
    (node,) = (node for node in outcome.graph.nodes if node.op == "ConvTransposeLast")
    (model,) = (
        np.asarray(t.values(), np.float64)
        for t in Graph.from_model(
            parse("g (float[1] x) => (float[8, 8, 3, 3] y) { y = Mul(x, w) }", {"w": (8, 8, 3, 3)})
        ).constants
    )
    padded = np.pad(model, ((0, 0), (0, 0), (1, 1), (1, 1)))
    wanted = sum(padded[:, :, i : i + 4, j : j + 4] for i in (0, 1) for j in (0, 1))
    np.testing.assert_array_equal(node.inputs[1].values(), wanted.astype(np.float32))


@pytest.mark.parametrize(
    ("body", "shape", "w", "reason"),
    [
        ("y = Conv<strides = [2, 2]>(r, w)", "1, 8, 4, 2", (8, 8, 3, 3), "strides or is dilated"),
        ("y = Conv<dilations = [2, 2]>(r, w)", "1, 8, 6, 2", (8, 8, 3, 3), "or is dilated"),
        ("y = Conv<group = 2>(r, w)", "1, 8, 8, 4", (8, 4, 3, 3), "has groups"),
        (
            "y = Conv<pads = [3, 3, 3, 3]>(r, w)",
            "1, 8, 14, 10",
            (8, 8, 3, 3),
            "exceeds its kernel's reach",
        ),
        ("y = Conv(r, w)", "1, 8, 10, 6", (8, 8, 1, 1), "no faster"),
    ],
)
def test_near_matches_are_refused(body: str, shape: str, w: tuple[int, ...], reason: str) -> None:
    outcome = rewritten(body, shape, w)
    assert not outcome.record.changed
    assert any(reason in text for text in reasons(outcome, "missed"))


def test_weights_on_the_bus_count() -> None:
    body, shape = "y = Conv<pads = [1, 1, 1, 1]>(r, w)", "1, 8, 10, 6"
    slow = FAST.with_values(dma_bandwidth_bytes_per_s=1e6)
    outcome = rewritten(body, shape, machine=slow)
    assert not outcome.record.changed
    assert any("weights on the bus included" in text for text in reasons(outcome, "missed"))


@pytest.mark.parametrize(
    ("size", "channels", "precision", "taken"),
    [
        (64, 512, "fp16", True),  # the decoder's
        (32, 640, "w8a16", True),  # the U-Net's: multiplying takes longest
        (16, 1280, "w8a16", False),  # loading weights does
        (16, 640, "w8a16", False),
    ],
)
def test_decisions_for_upsamplers_of_diffusion_models(
    size: int, channels: int, precision: str, taken: bool
) -> None:
    image = f"1, {channels}, {{}}, {{}}"
    model = parse(
        f"g (float[{image.format(size, size)}] x) => "
        f"(float[{image.format(2 * size, 2 * size)}] y) <float[4] s = {{1, 1, 2, 2}}> "
        f"{{ {DOUBLED} y = Conv<pads = [1, 1, 1, 1]>(r, w) }}",
        {"w": (channels, channels, 3, 3)},
    )
    graph = Graph.from_model(model)
    passes = [ChannelsLast(), FoldResize(), TransposeUpsampledConv(precision)]
    *_, record = PassManager(passes).run(graph, replace(CONTEXT, component="unet"))
    assert record.changed is taken


def test_it_can_be_left_out() -> None:
    names = [each.name for each in default_passes(transposing=False)]
    assert TransposeUpsampledConv.name not in names
    assert [each.name for each in default_passes() if each.name not in names] == [
        TransposeUpsampledConv.name
    ]
