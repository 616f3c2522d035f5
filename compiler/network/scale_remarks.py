"""Patterns in measured ranges that make INT16 arithmetic unsafe or coarse, each as a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from edgefusion.compiler.lowering.attention import score_tensor
from edgefusion.compiler.network.network import NetOp, Network, stage_names
from edgefusion.compiler.network.scales import LEVELS, MASK_MARGIN, Ranges
from edgefusion.runtime.functions import UNARY
from edgefusion.runtime.isa import DType

RemarkKind = Literal["accumulator", "divisor", "mask", "outlier", "table", "zero"]

ACCUMULATOR_LIMIT = 2**47
"""The accumulator holds 48 bits, one of them the sign."""

WEIGHT_LEVELS = 127

OUTLIER_RATIO = 8.0
"""Above it, three of the sixteen bits serve less than one value in ten thousand."""


@dataclass(frozen=True, slots=True)
class ScaleRemark:
    """What is unsafe, about which tensor, and why."""

    kind: RemarkKind
    tensor: str
    reason: str

    def __str__(self) -> str:
        """As it is printed."""
        return f"{self.kind} '{self.tensor}': {self.reason}"


def scale_remarks(
    network: Network, ranges: Ranges, typical: Mapping[str, float] | None = None
) -> tuple[ScaleRemark, ...]:
    """All remarks on the INT16 ops of ``network``.

    ``typical`` is the 99.99 % quantile of each tensor's magnitude, where it is known.
    """
    found = [
        remark
        for op in network.ops
        if network.tensor(op.outputs[0]).dtype == DType.INT16
        for check in (_accumulator, _divisor, _mask, _table)
        for remark in check(network, op, ranges)
    ]
    return (*found, *_spread(ranges, typical or {}))


def _accumulator(network: Network, op: NetOp, _: Ranges) -> Iterator[ScaleRemark]:
    """Products summed without rounding must fit whatever the values are."""
    depth, other = 0, WEIGHT_LEVELS
    if op.kind in ("conv", "matmul"):
        weights = network.tensor(op.inputs[1])
        depth = weights.elements // weights.shape[0 if op.kind == "conv" else -1]
    elif op.kind == "batch_matmul":
        depth, other = network.tensor(op.inputs[0]).shape[-1], LEVELS
    elif op.kind == "attention":
        keys = network.tensor(op.inputs[1])
        depth, other = max(keys.elements // keys.shape[-1], keys.shape[-1]), LEVELS + 1
    if depth * LEVELS * other > ACCUMULATOR_LIMIT:
        yield ScaleRemark(
            "accumulator",
            op.outputs[0],
            f"'{op.name}' sums {depth} products, which can exceed 48 bits; split its depth",
        )


def _divisor(network: Network, op: NetOp, ranges: Ranges) -> Iterator[ScaleRemark]:
    """A divisor is known to half a step, which is much of it near zero."""
    if op.kind != "binary" or op.attrs["function"] != "div":
        return
    found = ranges.get(network.tensor(op.inputs[1]).constant or op.inputs[1])
    if found is not None and found.low <= 0 <= found.high:
        yield ScaleRemark(
            "divisor",
            op.inputs[1],
            f"spans {found.low:.3g} to {found.high:.3g} and divides in '{op.name}': quotients by "
            "values near zero are coarse; try precision fp16 for that op",
        )


def _mask(network: Network, op: NetOp, ranges: Ranges) -> Iterator[ScaleRemark]:
    """A mask of minus infinity or thereabouts is clipped to what the softmax can tell apart."""
    if op.kind != "attention" or len(op.inputs) < 4:
        return
    constant = network.tensor(op.inputs[3]).constant
    mask, scores = ranges.get(constant or op.inputs[3]), ranges.get(score_tensor(op.name, "in"))
    if mask is not None and scores is not None and mask.low < -2 * scores.largest - MASK_MARGIN:
        yield ScaleRemark(
            "mask",
            op.inputs[3],
            f"reaches {mask.low:.3g} where scores of '{op.name}' stay within "
            f"{scores.largest:.3g}; it is clipped to {-2 * scores.largest - MASK_MARGIN:.3g}, "
            "which puts masked scores out of reach",
        )


def _table(_: Network, op: NetOp, ranges: Ranges) -> Iterator[ScaleRemark]:
    """The input of a tabulated function."""
    inputs = []
    if op.kind in ("unary", "glu"):
        inputs.append((op.inputs[0], str(op.attrs["function"])))
    steps = [step for step in op.epilogue if step.function != "stats"]
    for name, step in zip(stage_names(op), steps, strict=False):
        if not step.operand:
            inputs.append((name, step.function))
    for name, function in inputs:
        if name in ranges and ranges[name].largest > UNARY[function].table_range:
            yield ScaleRemark(
                "table",
                name,
                f"reaches {ranges[name].largest:.3g} before {function}, whose table is fine only "
                f"up to {UNARY[function].table_range:g}",
            )


def _spread(ranges: Ranges, typical: Mapping[str, float]) -> Iterator[ScaleRemark]:
    """Ranges that are empty, or set by a few values far from all others."""
    for name, found in ranges.items():
        usual = typical.get(name)
        if found.largest == 0:
            yield ScaleRemark("zero", name, "was zero throughout calibration")
        elif usual is not None and found.largest > OUTLIER_RATIO * usual:
            yield ScaleRemark(
                "outlier",
                name,
                f"reaches {found.largest:.3g}, but 99.99 % of its values stay within {usual:.3g}; "
                "try --calibration-method percentile, or precision fp16 for its op",
            )
