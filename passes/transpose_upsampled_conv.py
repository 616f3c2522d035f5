"""Convolutions of a doubled image as transposed convolutions, which multiply less.

``ConvLast_up2`` reads each pixel several times under neighbouring taps: these could be added up
first. The sums of taps are the kernel of a transposed convolution of stride 2, one element longer
each way, which by phases multiplies 16 times where a 3x3 kernel multiplies 36 times. As there are
more weights, 16 for 9, it takes the place only where it is faster still with these on the bus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.functions import function_for, kind_and_tokens
from edgefusion.compiler.graph.graph import Graph, Node
from edgefusion.compiler.graph.weights import Array, Values
from edgefusion.passes.assign_precision import W8A16, AssignPrecision
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks
from edgefusion.runtime.cost import tensor_ns
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import Machine

FACTOR = 2
"""What the token ``up2`` enlarges by."""

ACTIVATION_BYTES = 2  # INT16 and FP16 alike


@dataclass(frozen=True)
class TransposeUpsampledConv:
    """Rewrite ``ConvLast_up2`` of stride 1 where that is faster; runs after ``fold-resize`` and
    before epilogues.

    ``precision`` and ``rules`` are those of ``assign-precision``: they decide what weights weigh.
    """

    precision: str = ""
    rules: tuple[tuple[str, str], ...] = ()

    name: ClassVar[str] = "transpose-upsampled-conv"

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """x[1,h,w,ci], w[co,ci,kh,kw] -> y[1,2h',2w',co], with w[co,ci,kh+1,kw+1] instead."""
        remarks = Remarks(self.name)
        assigned = AssignPrecision(self.precision, self.rules)
        for node in graph.nodes:
            kind, tokens = kind_and_tokens(node.op)
            if kind != "ConvLast" or tokens[:1] != ("up2",):
                continue
            precision, _ = assigned.of(node, context.component)
            before, after = _times_us(node, context.machine, precision)
            estimate = f"about {after:.3g} us for {before:.3g} us"
            reason = _refusal(node)
            if not reason and after >= before:
                reason = f"it would be no faster ({estimate}, weights on the bus included)"
            if reason:
                remarks.missed(node, reason)
                continue
            made = _rewrite(graph, node, tokens[1:])
            remarks.matched(made, f"a transposed convolution by phases, {estimate}")
        return remarks.result()


def _refusal(node: Node) -> str:
    """Why ``node`` is no transposed convolution that the NPU computes; '' if it is."""
    if node.get_ints("strides") != (1, 1) or node.get_ints("dilations") != (1, 1):
        return "the convolution strides or is dilated"
    if node.get_int("group") != 1:
        return "the convolution has groups"
    if not node.inputs[1].is_constant:
        return "its weights are computed at run time"
    kernel = node.inputs[1].shape[2:]
    pads = node.get_ints("pads")
    if any(not 0 <= pad < kernel[i % 2] for i, pad in enumerate(pads)):
        return f"padding {list(pads)} exceeds its kernel's reach {list(kernel)}"
    return ""


def _times_us(node: Node, machine: Machine, precision: str) -> tuple[float, float]:
    """What the convolution takes, and the transposed one: multiplying, or loading weights.

    Microseconds, of a part as large as the op, under the machine's rates.
    """
    _, height, width, _ = node.output.shape
    outputs, inputs, *kernel = node.inputs[1].shape
    pixels, read = height * width, node.inputs[0].shape[1] * node.inputs[0].shape[2] * inputs
    rate = machine.tensor_rate[precision if precision == W8A16 else "fp16"]
    itemsize = 1 if precision == W8A16 else 2

    def takes(taps: Sequence[int], phases: int) -> float:
        """In ``phases`` products of equal size, which all read x."""
        weights = outputs * inputs * taps[0] * taps[1] * itemsize
        one = tensor_ns(
            machine,
            pixels / phases,
            outputs,
            inputs * taps[0] * taps[1] / phases,
            read * ACTIVATION_BYTES,
            weights / phases,
            pixels / phases * outputs * ACTIVATION_BYTES,
            rate,
        )
        multiplying = float(one) * phases / machine.engines[EngineKind.TENSOR]
        return max(multiplying, 1e9 * weights / machine.dma_bandwidth_bytes_per_s) / 1e3

    return takes(kernel, 1), takes([size + FACTOR - 1 for size in kernel], FACTOR**2)


def _rewrite(graph: Graph, node: Node, tokens: tuple[str, ...]) -> Node:
    """The transposed convolution in the place of ``node``."""
    x, weight, *rest = node.inputs
    kernel, pads = weight.shape[2:], node.get_ints("pads")
    shape = (*weight.shape[:2], *(size + FACTOR - 1 for size in kernel))
    sums = graph.deferred_constant(
        f"{weight.name}_transposed", shape, weight.dtype, partial(_sums_of, weight.lazy)
    )
    attrs = {
        "strides": [FACTOR, FACTOR],
        "pads": [kernel[i % 2] - 1 - pad for i, pad in enumerate(pads)],
        "output_padding": [0, 0],
    }
    function = function_for("ConvTransposeLast", tokens)
    return graph.fuse([node], function, [x, sums, *rest], list(node.outputs), attrs)


def _sums_of(values: Values) -> Array:
    """Of each tap of the longer kernel, the taps that meet one pixel: added in float64, rounded
    once."""
    filters = values.load()
    rows, columns = filters.shape[2:]
    sums = np.zeros((*filters.shape[:2], rows + FACTOR - 1, columns + FACTOR - 1), np.float64)
    for i in range(FACTOR):
        for j in range(FACTOR):
            sums[:, :, i : i + rows, j : j + columns] += filters
    return sums.astype(filters.dtype)
