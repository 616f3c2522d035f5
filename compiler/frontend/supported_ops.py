"""``SUPPORTED_OPS.md``, generated from the legality rules so that the two cannot differ."""

from __future__ import annotations

from collections.abc import Sequence

from edgefusion.compiler.frontend.legality import COMMON, SUPPORTED
from edgefusion.compiler.ops.kinds import KINDS
from edgefusion.runtime.functions import UNARY

_HEAD = """\
# Supported ops

Generated from the rules in `compiler/frontend/legality.py`; do not edit, but run
`python -m edgefusion.compiler.frontend.supported_ops > SUPPORTED_OPS.md`.

Ops are named as they stand in the graph after fusion: `edgefusion` functions such as `ConvLast` and
`Attention`, and standard ONNX operators. Before that, passes write other ops with these (see the
end). An op that breaks a rule, and every other standard ONNX operator, runs on the host in float32;
the report lists each with its reason. Operators of other domains, and control flow, are errors.
"""

WRITTEN_OUT: Sequence[str] = [
    "Abs",
    "BatchNormalization",
    "Clip",
    "DepthToSpace",
    "Einsum",
    "Elu",
    "Expand",
    "Gather",
    "HardSigmoid",
    "InstanceNormalization",
    "LeakyRelu",
    "LpNormalization",
    "Max",
    "Mean",
    "Min",
    "Neg",
    "PRelu",
    "Pad",
    "Pow",
    "Reciprocal",
    "ReduceL2",
    "ReduceSumSquare",
    "Slice",
    "Sum",
    "Tile",
    "Where",
]
"""Those that ``passes.rewrite_ops`` has a rule for, which knows their limits."""


def supported_ops_markdown() -> str:
    """The whole file."""
    return "\n".join(
        [_HEAD, *_kinds_table(), "", *_rules_table(), "", *_epilogues(), "", *_written_out(), ""]
    )


def _kinds_table() -> list[str]:
    lines = ["## What the NPU computes", "", "| Kind | Operands and attributes |", "| --- | --- |"]
    return lines + [f"| `{kind.name}` | `{kind.summary()}` |" for kind in KINDS]


def _rules_table() -> list[str]:
    everywhere = " ".join(_sentence(rule.__doc__) for rule in COMMON)
    lines = ["## Graph ops and their rules", "", f"For all: {everywhere}", ""]
    lines += ["| Op | Becomes | If |", "| --- | --- | --- |"]
    rows: dict[str, list[str]] = {}
    for op, support in SUPPORTED.items():
        own = [rule for rule in support.rules if rule not in COMMON]
        rules = " ".join(_sentence(rule.__doc__) for rule in own)
        kind = f"`{support.kind.name}`" + (f", {support.note}" if support.note else "")
        rows.setdefault(f"| {kind} | {rules} |", []).append(f"`{op}`")
    return lines + [f"| {', '.join(ops)} {row}" for row, ops in rows.items()]


def _sentence(docstring: str | None) -> str:
    assert docstring, "every rule's docstring is its sentence for users"
    return " ".join(docstring.split())


def _epilogues() -> list[str]:
    functions = ", ".join(f"`{name}`" for name in UNARY)
    return [
        "## Epilogues",
        "",
        (
            "Convolutions and matmuls with constant weights apply, in the order of the graph: a "
            "bias, additions of a tensor of the result's shape or of one value a channel, "
            f"statistics for a following GroupNorm, and the functions {functions}."
        ),
    ]


def _written_out() -> list[str]:
    names = ", ".join(f"`{name}`" for name in WRITTEN_OUT)
    return [
        "## What is written with these",
        "",
        (
            f"On floating-point values, as far as their operands allow: {names}. Each has its rule "
            "in `passes/rewrite_values.py` or `passes/rewrite_moves.py`, and `--remarks` tell why "
            "one stayed. A `Resize` that repeats no pixels is two products with constant matrices; "
            "operands that repeat along inner axes are seen as matrices, or copied; transposes of "
            "more than four axes are several; images of a batch are computed one after the other, "
            "attentions of a batch as one."
        ),
    ]


if __name__ == "__main__":
    print(supported_ops_markdown(), end="")  # noqa: T201
