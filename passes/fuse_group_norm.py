"""GroupNorm as exporters write it becomes one op.

They write x[n,c,...] -> Reshape [n,groups,...] -> InstanceNormalization (scale 1, bias 0) ->
Reshape back -> Mul gamma -> Add beta; newer ones write ``GroupNormalization``, whose scale was per
group before operator set 21.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.functions import function_for
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.passes.matching import (
    all_equal,
    channel_vector,
    is_op,
    leak,
    made_by,
    other_operand,
)
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class FuseGroupNorm:
    """Makes ``edgefusion.GroupNorm`` (channels first; layout comes later)."""

    name: ClassVar[str] = "fuse-group-norm"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            if node.removed:
                continue
            if is_op(node, "InstanceNormalization"):
                match = _match(node)
            elif is_op(node, "GroupNormalization"):
                match = _match_native(node)
            else:
                continue
            if isinstance(match, str):
                remarks.missed(node, match)
            elif match:
                remarks.matched(_rewrite(graph, match), f"{match.groups} groups of {match.shape}")
        return remarks.result()


@dataclass(frozen=True)
class _Match:
    """``gamma`` and ``beta`` have one element a channel in any shape; None stands for 1 and 0."""

    x: Tensor
    nodes: list[Node]
    groups: int
    epsilon: float
    gamma: Tensor | None
    beta: Tensor | None

    @property
    def shape(self) -> list[int]:
        return list(self.x.shape)


def _match(norm: Node) -> _Match | str | None:
    grouped, scale, bias = norm.inputs
    split = made_by(grouped, "Reshape")
    if split is None:
        return None  # an instance normalization of its own right
    x = split.inputs[0]
    if x.rank < 2 or grouped.rank < 3 or grouped.shape[0] != x.shape[0]:
        return f"the reshape {list(x.shape)} -> {list(grouped.shape)} does not keep the batch"
    channels, groups = x.shape[1], grouped.shape[1]
    if channels % groups:
        return f"{channels} channels do not divide into {groups} groups"
    if not (all_equal(scale, 1.0) and all_equal(bias, 0.0)):
        return "the instance normalization has a scale or bias of its own for each group"
    merge = norm.output.only_consumer
    if merge is None or not is_op(merge, "Reshape"):
        return "the normalized groups are not reshaped back, or used twice"
    if merge.output.shape != x.shape:
        return f"reshaped back to {list(merge.output.shape)} instead of {list(x.shape)}"
    nodes = [split, norm, merge]
    gamma = _affine(merge, "Mul", channels)
    if gamma:
        nodes.append(gamma[0])
    beta = _affine(nodes[-1], "Add", channels)
    if beta:
        nodes.append(beta[0])
    return leak(nodes[1:], [nodes[-1].output]) or _Match(
        x,
        nodes,
        groups,
        norm.get_float("epsilon", 1e-5),
        gamma[1] if gamma else None,
        beta[1] if beta else None,
    )


def _affine(before: Node, op: str, channels: int) -> tuple[Node, Tensor] | None:
    """The Mul or Add after ``before`` whose other operand is one constant a channel."""
    node = before.output.only_consumer
    if node is None or not is_op(node, op):
        return None
    constant = other_operand(node, before.output)
    if constant is None or not channel_vector(constant, channels, before.output.rank, axis=1):
        return None
    return node, constant


def _match_native(norm: Node) -> _Match | str:
    x, gamma, beta = norm.inputs
    groups = norm.get_int("num_groups")
    if norm.get_int("stash_type", 1) != 1:
        return "it is asked for in another precision than float32"
    if not (gamma.is_constant and beta.is_constant):
        return "scale and bias are not constants"
    return _Match(x, [norm], groups, norm.get_float("epsilon", 1e-5), gamma, beta)


def _rewrite(graph: Graph, match: _Match) -> Node:
    channels = match.x.shape[1]
    stem = match.nodes[0].scope or match.nodes[-1].name
    parameters = [
        _vector(graph, f"{stem}.{name}", constant, default, channels, match.x)
        for name, constant, default in (("gamma", match.gamma, 1.0), ("beta", match.beta, 0.0))
    ]
    return graph.fuse(
        match.nodes,
        function_for("GroupNorm"),
        [match.x, *parameters],
        [match.nodes[-1].output],
        {"num_groups": match.groups, "epsilon": match.epsilon},
    )


def _vector(
    graph: Graph, name: str, constant: Tensor | None, default: float, channels: int, x: Tensor
) -> Tensor:
    """One value a channel as a vector [c]."""
    if constant is None:
        return graph.constant(name, np.full(channels, default, x.dtype))
    if constant.shape == (channels,):
        return constant
    if constant.lazy.nbytes == channels * constant.dtype.itemsize:
        return graph.reshaped_constant(name, constant, (channels,))
    values = constant.values().reshape(-1)  # one a group, before operator set 21
    return graph.constant(name, np.repeat(values, channels // values.size))
