"""Gemm becomes MatMul and Add, the one form of a linear layer that later passes know.

y = alpha A' B' + beta C. Constant operands are transposed and scaled when they are read, so no
weight is copied here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.passes.matching import is_op
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class NormalizeGemm:
    """Every Gemm of static shape; those whose factors cannot be folded are refused."""

    name: ClassVar[str] = "normalize-gemm"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            if not is_op(node, "Gemm"):
                continue
            reason = _refusal(node)
            if reason:
                remarks.missed(node, reason)
            else:
                product = _rewrite(graph, node)
                x, w = product.inputs
                remarks.matched(product, f"{list(x.shape)} x {list(w.shape)}")
        return remarks.result()


def _refusal(gemm: Node) -> str:
    weights, bias = gemm.inputs[1], gemm.input(2)
    if not np.issubdtype(gemm.output.dtype, np.floating):
        return f"it multiplies {gemm.output.dtype}, which a factor would round"
    if gemm.get_float("alpha", 1.0) != 1.0 and not weights.is_constant:
        return "alpha is not 1 and B is no constant to fold it into"
    if gemm.get_float("beta", 1.0) != 1.0 and bias is not None and not bias.is_constant:
        return "beta is not 1 and C is no constant to fold it into"
    return ""


def _rewrite(graph: Graph, gemm: Node) -> Node:
    x, weights, bias = gemm.inputs[0], gemm.inputs[1], gemm.input(2)
    result = gemm.output
    if gemm.get_int("transA", 0):
        x = _transposed(graph, gemm, x)
    weights = _weights(graph, gemm, weights)
    if bias is None:
        return graph.fuse([gemm], "MatMul", [x, weights], [result])
    product = graph.tensor(f"{result.name}.product", result.shape, result.dtype)
    matmul = graph.add(
        "MatMul", [x, weights], [product], source=[gemm], name=f"{gemm.name}.product", before=gemm
    )
    graph.fuse([gemm], "Add", [product, _bias(graph, gemm, bias)], [result])
    return matmul


def _weights(graph: Graph, gemm: Node, weights: Tensor) -> Tensor:
    """B as the right operand [k,n], with alpha folded in."""
    transpose, alpha = gemm.get_int("transB", 0), gemm.get_float("alpha", 1.0)
    if not transpose and alpha == 1.0:
        return weights
    if not weights.is_constant:
        return _transposed(graph, gemm, weights)
    rows, columns = weights.shape
    source, dtype = weights.lazy, weights.dtype

    def compute() -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        values = source.load()
        values = values.T if transpose else values
        return np.ascontiguousarray(values if alpha == 1.0 else (values * alpha).astype(dtype))

    shape = (columns, rows) if transpose else (rows, columns)
    return graph.deferred_constant(f"{weights.name}.T", shape, dtype, compute)


def _bias(graph: Graph, gemm: Node, bias: Tensor) -> Tensor:
    """C with beta folded in, as a vector [n] where it is one row."""
    beta, columns = gemm.get_float("beta", 1.0), gemm.output.shape[-1]
    if bias.is_constant and bias.shape == (1, columns):
        bias = graph.reshaped_constant(f"{bias.name}.row", bias, (columns,))
    if beta == 1.0:
        return bias
    source, dtype = bias.lazy, bias.dtype
    return graph.deferred_constant(
        f"{bias.name}.scaled", bias.shape, dtype, lambda: (source.load() * beta).astype(dtype)
    )


def _transposed(graph: Graph, gemm: Node, tensor: Tensor) -> Tensor:
    rows, columns = tensor.shape
    result = graph.tensor(f"{tensor.name}.T", (columns, rows), tensor.dtype)
    graph.add("Transpose", [tensor], [result], {"perm": [1, 0]}, source=[gemm], before=gemm)
    return result
