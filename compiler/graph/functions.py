"""Fused ops as ONNX model-local functions: their names, and bodies of standard ops.

A fused op is called ``Kind_token_token`` in the domain ``edgefusion``; the tokens say which
structural variant it is, in the order in which things happen: ``ConvLast_up2_bias_add_silu_stats``.
Because every body is standard ONNX (operator set 20), a graph at any stage runs in ONNX Runtime.
Inputs are the kind's own, then one for each token that has an operand, in token order.

=====================  ===============================================================  ===========
kind                   computes                                                         attributes
=====================  ===============================================================  ===========
Conv                   x[n,ci,...], w[co,ci/g,k...] -> y[n,co,...]                      strides,
                                                                                        pads,
                                                                                        dilations,
                                                                                        group
ConvLast               x[n,h,w,ci], w[co,ci/g,kh,kw] -> y[n,h,w,co]                     as Conv
ConvTransposeLast      x[n,h,w,ci], w[co,ci,kh,kw] -> y[n,h',w',co]                     strides,
                                                                                        pads,
                                                                                        output_padd.
MatMul                 x[...,k], w[k,n] -> y[...,n]
GroupNorm              x[n,c,...], gamma[c], beta[c] -> y                               num_groups,
                                                                                        epsilon
GroupNormLast          x[n,...,c], gamma[c], beta[c] -> y                               as above
RMSNorm                x[...,c], gamma[c] -> y                                          epsilon
Attention              q[n,lq,h*d], k[n,lk,h*d], v[n,lk,h*e] -> y[n,lq,h*e]             num_heads,
                                                                                        scale
SiLU, QuickGELU        x -> y
GEGLU                  x[...,2c] -> y[...,c] = x[...,:c] * gelu(x[...,c:])
GLU_f                  the same with function f
PoolLast_max, _average x[n,h,w,c] -> y[n,h',w',c]                                       kernel,
                                                                                        strides,
                                                                                        pads,
                                                                                        count_incl.
=====================  ===============================================================  ===========

The taps of ConvTransposeLast are in the order in which a result meets them: turned around both ways
against those of ONNX's ConvTranspose.

Tokens of convolutions and MatMul: ``up2`` (Conv and ConvLast, first: nearest-neighbour doubling of
x), ``bias`` ([co]), ``add`` (an operand that broadcasts to the result), unary functions (their
tokens in ``runtime.functions``), and ``stats`` (last: a second result [2,co], sums and sums of
squares of y over all but the channels). GroupNorms take a unary function and then ``stats`` (such
sums of x as an input, instead of computing them; n must be 1). Attention takes ``mask`` (added to
the scores [n,h,lq,lk] before softmax), and before it ``grouped``: k and v have ``num_key_heads``,
each for as many heads of q.
"""

from __future__ import annotations

from functools import cache

import onnx
import onnx.parser

from edgefusion.compiler.graph.function_bodies import KINDS
from edgefusion.compiler.graph.function_body import Body
from edgefusion.compiler.graph.opset import OPSET

__all__ = [
    "DOMAIN",
    "function_for",
    "function_name",
    "kind_and_tokens",
]

DOMAIN = "edgefusion"
VERSION = 1


def function_for(kind: str, tokens: tuple[str, ...] = ()) -> onnx.FunctionProto:
    """The function ``kind_token_token``.

    Raises:
        ValueError: no such kind, or tokens that it does not take in that order (a defect of ours).
    """
    function = onnx.FunctionProto()
    function.CopyFrom(_function(kind, tokens))
    return function


def function_name(kind: str, tokens: tuple[str, ...] = ()) -> str:
    """``Conv``, ``("bias", "silu")`` -> ``Conv_bias_silu``."""
    return "_".join((kind, *tokens))


def kind_and_tokens(op: str) -> tuple[str, tuple[str, ...]]:
    """``Conv_bias_silu`` -> ``Conv``, ``("bias", "silu")``."""
    kind, *tokens = op.split("_")
    return kind, tuple(tokens)


@cache
def _function(kind: str, tokens: tuple[str, ...]) -> onnx.FunctionProto:
    if kind not in KINDS:
        raise ValueError(f"expected one of the kinds {', '.join(KINDS)}, got '{kind}'")
    body = Body()
    attributes = KINDS[kind](body, kind, tokens)
    declared = f"<{', '.join(attributes)}>" if attributes else ""
    text = (
        f'<domain: "{DOMAIN}", opset_import: ["": {OPSET}]>\n'
        f"{function_name(kind, tokens)} {declared} ({', '.join(body.inputs)}) "
        f"=> ({', '.join(body.outputs)})\n{{\n{body.text}\n}}"
    )
    return onnx.parser.parse_function(text)
