"""Patterns in measured ranges that make INT16 arithmetic unsafe or coarse, each as a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgefusion.compiler.network.network import NetOp, Network, stage_names
from edgefusion.compiler.network.ranges import LEVELS, Ranges, ScaleRemark
from edgefusion.runtime.functions import UNARY
from edgefusion.runtime.isa import DType

ACCUMULATOR_LIMIT = 2**47
"""The accumulator holds 48 bits, one of them the sign."""

OUTLIER_RATIO = 8.0
"""Above it, three of the sixteen bits serve less than one value in ten thousand."""


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
        for remark in (
            *_accumulator(network, op),
            *op.kind.remarks(op.name, network.tensors, ranges),
            *_table(op, ranges),
        )
    ]
    return (*found, *_spread(ranges, typical or {}))


def _accumulator(network: Network, op: NetOp) -> Iterator[ScaleRemark]:
    """Products summed without rounding must fit whatever the values are."""
    sums = op.kind.accumulation(network.tensors)
    if sums is not None and sums.depth * LEVELS * sums.levels > ACCUMULATOR_LIMIT:
        yield ScaleRemark(
            "accumulator",
            op.outputs[0],
            f"'{op.name}' sums {sums.depth} products, which can exceed 48 bits; split its depth",
        )


def _table(op: NetOp, ranges: Ranges) -> Iterator[ScaleRemark]:
    """The input of a tabulated function."""
    inputs = list(op.kind.tabulated())
    steps = [step for step in op.epilogue if not step.is_statistics]
    staged = zip(stage_names(op), steps, strict=False)
    inputs += [(name, step.function) for name, step in staged if not step.operand]
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
