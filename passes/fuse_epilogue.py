"""Additions and activations into the epilogue of the convolution, matmul or norm before them.

An epilogue works on the result tile while it is in SRAM, so bias, time embedding, residual and
activation cost no trip through DRAM: ``ConvLast_bias_add_silu`` instead of four ops. The order of
the tokens is the order of the source ops. A residual whose two sides both come from such ops goes
into the one that runs later, for then the other side is ready.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.elementwise import unary_function
from edgefusion.compiler.graph.functions import DOMAIN, function_for, kind_and_tokens
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.passes.layout_forms import VIEW_OPS, add_view
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


def is_contraction(node: Node) -> bool:
    """Whether ``node`` is a channels-last convolution or a matmul with constant weights."""
    kind, _ = kind_and_tokens(node.op)
    if kind in ("ConvLast", "ConvTransposeLast"):
        return True
    return kind == "MatMul" and node.inputs[1].is_constant and node.inputs[1].rank == 2


@dataclass(frozen=True)
class FuseEpilogue:
    """Fuse Add and unary ops into convolutions and MatMul of constant weights, SiLU into
    GroupNorm."""

    name: ClassVar[str] = "fuse-epilogue"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Change ``graph`` in place; y[..., c] of a contraction absorbs what only reads y."""
        remarks = Remarks(self.name)
        _merge_equal_activations(graph, remarks)
        position = {node: index for index, node in enumerate(graph.nodes)}
        for node in graph.nodes:
            if node.op != "Add" and unary_function(node) is None:
                continue
            if _into_group_norm(graph, node, remarks):
                continue
            choices = _producers(node, remarks)
            if not choices:
                continue
            index = max(choices, key=lambda i: position[choices[i]])
            place = position[node]
            node = _below_view(graph, node, index)  # noqa: PLW2901
            fused = _absorb(graph, node, index)
            position[fused] = place
            remarks.matched(fused, f"absorbed {node.op} of {', '.join(node.origin)}")
        return remarks.result()


def _merge_equal_activations(graph: Graph, remarks: Remarks) -> None:
    """Exporters apply SiLU to the same time embedding once a block; once is enough."""
    for node in graph.nodes:
        function = None if node.removed else unary_function(node)
        if function is None:
            continue
        for other in node.inputs[0].consumers:
            same = unary_function(other) is function and other.inputs[0] is node.inputs[0]
            if other is node or not same or other.output.is_output:
                continue
            graph.rewire(other.output, node.output)
            graph.remove(other)
            remarks.matched(node, f"computes what {other.op} '{other.name}' did")


def _into_group_norm(graph: Graph, node: Node, remarks: Remarks) -> bool:
    """SiLU after a GroupNorm: it normalises and applies it in one visit to the tile."""
    norm = node.inputs[0].producer
    if norm is None or node.op != "SiLU" or norm.op != "GroupNormLast":
        return False
    if node.inputs[0].only_consumer is not node:
        remarks.missed(node, f"not into {norm.op} '{norm.name}': others read its result too")
        return True
    function = function_for("GroupNormLast", ("silu",))
    fused = graph.fuse([norm, node], function, norm.inputs, [node.output], norm.attrs)
    remarks.matched(fused, f"absorbed SiLU of {', '.join(node.origin)}")
    return True


def _producers(node: Node, remarks: Remarks) -> dict[int, Node]:
    """The contractions that could absorb ``node``, by the operand that they make."""
    found: dict[int, Node] = {}
    operands = node.inputs if node.op == "Add" else node.inputs[:1]
    if len(operands) == 2 and operands[0] is operands[1]:
        return found
    for index, tensor in enumerate(operands):
        producer = _contraction_before(tensor)
        if producer is None:
            continue
        reason = _refusal(node, index, producer)
        if reason:
            remarks.missed(node, f"not into {producer.op} '{producer.name}': {reason}")
        else:
            found[index] = producer
    return found


def _contraction_before(tensor: Tensor) -> Node | None:
    """The contraction that makes ``tensor``, at most one view away."""
    producer = tensor.producer
    if producer is not None and producer.op in VIEW_OPS and not producer.domain:
        producer = producer.inputs[0].producer
    return producer if producer is not None and is_contraction(producer) else None


def _refusal(node: Node, index: int, producer: Node) -> str:
    """Why ``producer`` cannot absorb ``node``, whose operand ``index`` it makes; '' if it can."""
    tensor, made = node.inputs[index], producer.output
    if tensor.only_consumer is not node or (tensor is not made and _view_is_shared(tensor, made)):
        return "its result is wanted without this step too"
    if "stats" in kind_and_tokens(producer.op)[1]:
        return "its statistics are those of the result so far"
    if tensor.shape != node.output.shape:
        return f"the sum has another shape, {list(node.output.shape)}"
    if node.op != "Add":
        return ""
    other = node.inputs[1 - index]
    vector = prod(other.shape) in (1, other.shape[-1] if other.shape else 1)
    if other.shape == tensor.shape or (
        vector and (other.is_constant or prod(other.shape) == tensor.shape[-1])
    ):
        return (
            ""
            if other.shape == tensor.shape or tensor.shape[-1] == made.shape[-1]
            else ("a view between them moves the channels")
        )
    return (
        f"the other operand {list(other.shape)} is neither a vector of channels nor of the "
        f"result's shape {list(tensor.shape)}"
    )


def _view_is_shared(tensor: Tensor, made: Tensor) -> bool:
    view = tensor.producer
    return view is None or made.only_consumer is not view


def _below_view(graph: Graph, node: Node, index: int) -> Node:
    """Contraction, view, ``node`` -> contraction, ``node``, view; returns the new ``node``."""
    view = node.inputs[index].producer
    if view is None or view.op not in VIEW_OPS:
        return node
    made, result = view.inputs[0], node.output
    inputs = list(node.inputs)
    inputs[index] = made
    if node.op == "Add" and inputs[1 - index].shape == result.shape:
        inputs[1 - index] = _viewed(graph, inputs[1 - index], made.shape, node)
    early = graph.tensor(f"{result.name}_before_view", made.shape, result.dtype)
    op = graph.functions[node.op] if node.domain == DOMAIN else node.op
    moved = graph.add(op, inputs, [early], node.attrs, source=[node], before=node)
    result.raw.inputs.clear()
    add_view(graph, early, result, view)
    graph.remove(node)
    graph.remove(view)
    return moved


def _viewed(graph: Graph, tensor: Tensor, shape: tuple[int, ...], node: Node) -> Tensor:
    """``tensor`` under another shape, made before ``node``; a constant stays one."""
    name = f"{tensor.name}_view"
    if tensor.is_constant:
        values = tensor.lazy
        return graph.deferred_constant(
            name, shape, tensor.dtype, lambda: values.load().reshape(shape)
        )
    result = graph.tensor(name, shape, tensor.dtype)
    add_view(graph, tensor, result, node)
    return result


def _absorb(graph: Graph, node: Node, index: int) -> Node:
    """Fuse ``node`` into the contraction that makes its operand ``index``."""
    producer = node.inputs[index].producer
    assert producer is not None
    kind, tokens = kind_and_tokens(producer.op)
    inputs: list[Tensor] = list(producer.inputs)
    if node.op == "Add":
        token, operand = _addend(graph, node.inputs[1 - index], node.output.shape, tokens)
        inputs.append(operand)
    else:
        applied = unary_function(node)
        assert applied is not None
        token = applied.token
    function = function_for(kind, (*tokens, token))
    return graph.fuse([producer, node], function, inputs, [node.output], producer.attrs)


def _addend(
    graph: Graph, other: Tensor, shape: tuple[int, ...], tokens: tuple[str, ...]
) -> tuple[str, Tensor]:
    """The token and operand for ``+ other``; constant vectors become [c], a first one the bias."""
    channels = shape[-1]
    if not other.is_constant or prod(other.shape) not in (1, channels):
        return "add", other
    token = "bias" if tokens in ((), ("up2",)) else "add"
    if other.shape == (channels,):
        return token, other
    values = other.lazy
    vector = graph.deferred_constant(
        f"{other.name}_vector",
        (channels,),
        other.dtype,
        lambda: np.ascontiguousarray(np.broadcast_to(values.load().reshape(-1), (channels,))),
    )
    return token, vector
