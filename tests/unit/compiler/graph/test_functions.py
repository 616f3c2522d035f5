"""The bodies of fused ops, run in ONNX Runtime, against their definitions written in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest

from edgefusion.compiler.graph.functions import (
    DOMAIN,
    function_for,
    function_name,
    kind_and_tokens,
)
from edgefusion.runtime.functions import UNARY
from tests.function_reference import OF_ALL_NUMBERS, reference
from tests.graph_cases import Array, assert_same, execute

RNG = np.random.default_rng(3)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def call(
    kind: str,
    tokens: Sequence[str],
    operands: Sequence[Array],
    attrs: Mapping[str, object] | None = None,
) -> list[Array]:
    """The results of one fused op."""
    function = function_for(kind, tuple(tokens))
    onnx.checker.check_function(function)
    node = onnx.helper.make_node(
        function.name, list(function.input), list(function.output), domain=DOMAIN, **(attrs or {})
    )
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, operand.shape)
            for name, operand in zip(function.input, operands, strict=True)
        ],
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in function.output
        ],
    )
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(DOMAIN, 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)
    return execute(model, dict(zip(function.input, operands, strict=True)))


def conv(x: Array, w: Array, stride: int, pad: int) -> Array:
    """y[n,co,i,j] = sum of x[n,ci,...] w[co,ci,...], by definition."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows[:, :, ::stride, ::stride], w)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


ATTRS = {"strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1], "group": 1}


def to_last(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def sums(y: Array) -> Array:
    """stats[2,c] of y[...,c]."""
    rows = y.reshape(-1, y.shape[-1])
    return np.stack([rows.sum(0), (rows**2).sum(0)])


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("doubled", [False, True])
def test_conv_with_everything(last: bool, doubled: bool) -> None:
    x, w, bias, residual = normal(1, 3, 6, 4), normal(5, 3, 3, 3), normal(5), normal(1, 5, 3, 2)
    vector = normal(1, 5, 1, 1)
    if doubled:
        residual = normal(1, 5, 6, 4)
    source = x.repeat(2, 2).repeat(2, 3) if doubled else x
    y = silu(conv(source, w, 2, 1) + bias[:, None, None] + vector) + residual
    tokens = [*(["up2"] if doubled else []), "bias", "add", "silu", "add", "stats"]
    if last:
        operands = [to_last(x), w, bias, to_last(vector), to_last(residual)]
        wanted = [to_last(y), sums(to_last(y))]
        assert_same(call("ConvLast", tokens, operands, ATTRS), wanted)
    else:
        wanted = [y, sums(to_last(y))]
        assert_same(call("Conv", tokens, [x, w, bias, vector, residual], ATTRS), wanted)


def test_conv_without_tokens_in_one_dimension() -> None:
    x, w = normal(2, 3, 8), normal(5, 3, 3)
    windows = np.lib.stride_tricks.sliding_window_view(x, 3, 2)
    attrs = {"strides": [1], "pads": [0, 0], "dilations": [1], "group": 1}
    assert_same(call("Conv", [], [x, w], attrs), [np.einsum("nchi,oci->noh", windows, w)])


def test_matmul_with_everything() -> None:
    x, w, bias, residual = normal(2, 3, 4), normal(4, 5), normal(5), normal(2, 3, 5)
    y = np.maximum(x @ w + residual, 0)
    assert_same(call("MatMul", ["add", "relu"], [x, w, residual]), [y])
    y = np.tanh(x @ w + bias) + residual
    found = call("MatMul", ["bias", "tanh", "add", "stats"], [x, w, bias, residual])
    assert_same(found, [y, sums(y)])


def group_norm(x: Array, gamma: Array, beta: Array, groups: int, epsilon: float) -> Array:
    """x[n,c,...], by definition."""
    grouped = x.reshape(x.shape[0], groups, -1).astype(np.float64)
    mean, variance = grouped.mean(2, keepdims=True), grouped.var(2, keepdims=True)
    unit = ((grouped - mean) / np.sqrt(variance + epsilon)).reshape(x.shape)
    broadcast = (-1,) + (1,) * (x.ndim - 2)
    return (unit * gamma.reshape(broadcast) + beta.reshape(broadcast)).astype(np.float32)


NORM = {"num_groups": 3, "epsilon": 1e-2}


@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (2, 6, 5), (1, 6, 2, 3, 2)])
@pytest.mark.parametrize("tokens", [(), ("silu",)])
def test_group_norm_in_both_layouts(shape: tuple[int, ...], tokens: tuple[str, ...]) -> None:
    x, gamma, beta = 3 * normal(*shape) + 1, normal(6), normal(6)
    y = group_norm(x, gamma, beta, 3, 1e-2)
    y = silu(y) if tokens else y
    assert_same(call("GroupNorm", tokens, [x, gamma, beta], NORM), [y])
    assert_same(call("GroupNormLast", tokens, [to_last(x), gamma, beta], NORM), [to_last(y)])


def test_group_norm_uses_the_statistics_it_is_given() -> None:
    x, gamma, beta = 3 * normal(1, 6, 4, 3) + 1, normal(6), normal(6)
    y = silu(group_norm(x, gamma, beta, 3, 1e-2))
    stats = sums(to_last(x)).astype(np.float32)
    tokens = ("silu", "stats")
    assert_same(call("GroupNorm", tokens, [x, gamma, beta, stats], NORM), [y])
    found = call("GroupNormLast", tokens, [to_last(x), gamma, beta, stats], NORM)
    assert_same(found, [to_last(y)])
    wrong = call("GroupNormLast", tokens, [to_last(x), gamma, beta, 2 * stats], NORM)
    assert not np.allclose(wrong[0], to_last(y), atol=1e-2)


def test_rms_norm() -> None:
    x, gamma = 3 * normal(2, 4, 6) + 1, normal(6)
    wanted = x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.5) * gamma
    assert_same(call("RMSNorm", [], [x, gamma], {"epsilon": 0.5}), [wanted])


@pytest.mark.parametrize("masked", [False, True])
def test_attention(masked: bool) -> None:
    heads, depth, v_depth = 2, 3, 5
    q, k, v = (
        normal(2, 4, heads * depth),
        normal(2, 6, heads * depth),
        normal(2, 6, heads * v_depth),
    )
    mask = normal(1, 1, 4, 6)
    wanted = np.zeros((2, 4, heads * v_depth), np.float32)
    for head in range(heads):
        part, v_part = slice(head * depth, head * depth + depth), slice(head * 5, head * 5 + 5)
        scores = 0.7 * q[..., part] @ k[..., part].swapaxes(1, 2) + (mask[0, 0] if masked else 0)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        wanted[..., v_part] = weights @ v[..., v_part]
    operands = [q, k, v, mask] if masked else [q, k, v]
    attrs = {"num_heads": heads, "scale": 0.7}
    assert_same(call("Attention", ["mask"] if masked else [], operands, attrs), [wanted])


def test_gated_linear_units() -> None:
    x = normal(2, 3, 8)
    value, gate = x[..., :4], x[..., 4:]
    assert_same(call("GLU", ["silu"], [x]), [value * silu(gate)])
    assert_same(call("GEGLU", [], [x]), [value * reference("gelu", gate).astype(np.float32)])


def test_elementwise() -> None:
    x = normal(2, 8)
    assert_same(call("SiLU", [], [x]), [silu(x)])
    assert_same(call("QuickGELU", [], [x]), [x * sigmoid(1.702 * x)])


@pytest.mark.parametrize("name", UNARY)
def test_every_unary_function(name: str) -> None:
    x = 3 * normal(4, 8)
    x = x if name in OF_ALL_NUMBERS else np.abs(x)
    found = call("MatMul", [UNARY[name].token], [x, np.eye(8, dtype=np.float32)])
    assert_same(found, [reference(name, x).astype(np.float32)])


def test_pools() -> None:
    x = normal(1, 4, 6, 3)
    attrs = {"kernel": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0], "count_include_pad": 1}
    blocks = x.reshape(1, 2, 2, 3, 2, 3)
    assert_same(call("PoolLast", ["max"], [x], attrs), [blocks.max((2, 4))])
    assert_same(call("PoolLast", ["average"], [x], attrs), [blocks.mean((2, 4))])


def test_names_round_trip() -> None:
    tokens = ("up2", "bias", "add", "gelutanh", "stats")
    assert function_name("ConvLast", tokens) == "ConvLast_up2_bias_add_gelutanh_stats"
    assert kind_and_tokens(function_name("ConvLast", tokens)) == ("ConvLast", tokens)
    tokens = tuple(row.token for row in UNARY.values())
    assert kind_and_tokens(function_name("MatMul", tokens)) == ("MatMul", tokens)
    assert len({*tokens, "up2", "bias", "add", "stats", "mask"}) == len(UNARY) + 5


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        ("Deconv", ()),
        ("Conv", ("silu", "up2")),
        ("Conv", ("add", "bias")),
        ("Conv", ("stats", "add")),
        ("MatMul", ("up2",)),
        ("GroupNorm", ("stats", "silu")),
        ("RMSNorm", ("silu",)),
        ("Attention", ("bias",)),
        ("GLU", ()),
        ("GEGLU", ("silu",)),
        ("PoolLast", ("min",)),
        ("SiLU", ("add",)),
    ],
)
def test_variants_that_do_not_exist(kind: str, tokens: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected|does not take|takes"):
        function_for(kind, tokens)


def test_the_result_is_the_callers_own() -> None:
    function_for("SiLU").name = "changed"
    assert function_for("SiLU").name == "SiLU"
