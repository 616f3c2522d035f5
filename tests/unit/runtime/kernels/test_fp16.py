"""FP16 kernels one by one against float64: correct rounding where it is promised, else bounds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.functions import UNARY
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Array, Operands
from edgefusion.runtime.kernels.fp16_functions import table16
from edgefusion.runtime.kernels.fp16_half import padded, put, single
from edgefusion.runtime.kernels.fp16_norm import exp32
from edgefusion.runtime.kernels.table import KERNELS
from edgefusion.runtime.opcodes import SPECIFICATIONS
from edgefusion.runtime.specification import Family
from edgefusion.runtime.tensor_numbers import PLAIN
from tests.fp16_reference import chain_error, rounded, ulp
from tests.function_reference import reference

RNG = np.random.default_rng(0)
EVERY = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def half(*shape: int, scale: float = 1.0) -> Array:
    return (RNG.standard_normal(shape) * scale).astype(np.float16)


def call(opcode: Opcode, y: Array, inputs: Sequence[Array], **attrs: object) -> Array:
    ops = Operands((y,), tuple(inputs), (PLAIN,), (PLAIN,) * len(inputs))
    KERNELS[opcode, Family.FP16](ops, SPECIFICATIONS[opcode].complete(tuple(attrs.items())))
    return y


def assert_close(found: Array, exact: Array, blur: Array | float = 0.0, ulps: float = 0.5) -> None:
    error = np.abs(found.astype(np.float64) - exact)
    assert (error <= ulps * ulp(exact) + blur).all(), float((error / ulp(exact)).max())


# Conversions


def test_widening_is_exact_and_narrowing_is_numpys() -> None:
    np.testing.assert_array_equal(single(EVERY), EVERY.astype(np.float32))
    values = RNG.integers(0, 1 << 32, 1 << 18, dtype=np.uint32).view(np.float32)
    y = np.empty(values.shape, np.float16)
    put(y, values)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(y, values.astype(np.float16))


@pytest.mark.parametrize("rows", [3, 4096])
def test_strided_and_repeated_views(rows: int) -> None:
    x = half(rows, 2, 40)
    for view in (x[::2, :, 3:], x.transpose(2, 0, 1), np.broadcast_to(x[:1, :, :1], x.shape)):
        np.testing.assert_array_equal(single(view), view.astype(np.float32))
        y = np.zeros((*view.shape, 2), np.float16)[..., 0]
        put(y, single(view))
        np.testing.assert_array_equal(y, view)
    expected = np.zeros((rows + 3, 9, 40))
    expected[1 : rows + 1, 4:6] = x
    np.testing.assert_array_equal(padded(x, (rows + 3, 9), 1, 4), expected)


def test_other_types_are_refused() -> None:
    with pytest.raises(InputError, match="expected FP16 or FP32 values, found int16"):
        single(np.zeros(3, np.int16))
    with pytest.raises(InputError, match="expected an FP16 or FP32 result, found int8"):
        put(np.zeros(3, np.int8), np.zeros(3, np.float32))


# Tensor engine


def convolved(
    x: Array, w: Array, stride: Sequence[int], dilation: Sequence[int], groups: int
) -> Array:
    """Float64 convolution of padded x [h,w,ci] with w [co,ci/g,kh,kw]."""
    co, per_group, kh, kw = w.shape
    rows = (x.shape[0] - (kh - 1) * dilation[0] - 1) // stride[0] + 1
    columns = (x.shape[1] - (kw - 1) * dilation[1] - 1) // stride[1] + 1
    y = np.zeros((rows, columns, co))
    for o, i, j in product(range(co), range(kh), range(kw)):
        first = o // (co // groups) * per_group
        part = x[i * dilation[0] :, j * dilation[1] :, first : first + per_group]
        part = part[
            : (rows - 1) * stride[0] + 1 : stride[0], : (columns - 1) * stride[1] + 1 : stride[1]
        ]
        y[:, :, o] += part @ w[o, :, i, j]
    return y


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 3)),
    st.sampled_from([(1, 5, 7), (1, 20, 33), (2, 6, 8), (4, 4, 4)]),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.booleans(),
)
def test_convolution(
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    channels: tuple[int, int, int],
    pads: tuple[int, int, int, int],
    bias: bool,
) -> None:
    groups, ci, co = channels
    x, w, b = half(9, 11, ci), half(co, ci // groups, *kernel, scale=0.2), half(co)
    around = np.pad(x.astype(np.float64), ((pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))
    weights = w.astype(np.float64)
    exact = convolved(around, weights, strides, dilations, groups) + bias * b.astype(np.float64)
    size = convolved(np.abs(around), np.abs(weights), strides, dilations, groups) + np.abs(b)
    y = call(
        Opcode.CONV2D,
        np.zeros(exact.shape, np.float16),
        [x, w, b] if bias else [x, w],
        bias=int(bias),
        strides=strides,
        dilations=dilations,
        groups=groups,
        pads=pads,
    )
    assert_close(y, exact, chain_error(w[0].size, size))


@pytest.mark.parametrize("phase", [(0, 0), (1, 0), (1, 1)])
def test_convolution_of_an_enlarged_input_from_any_phase(phase: tuple[int, int]) -> None:
    """A stripe may begin in the middle of a repeated element."""
    x, w = half(4, 5, 6), half(7, 6, 3, 3, scale=0.2)
    large = x.astype(np.float64).repeat(2, axis=0).repeat(2, axis=1)[phase[0] :, phase[1] :]
    exact = convolved(
        np.pad(large, ((1, 0), (1, 0), (0, 0))), w.astype(np.float64), (1, 1), (1, 1), 1
    )
    y = np.zeros(exact.shape, np.float16)
    geometry = {"strides": (1, 1), "pads": (1, 1, 0, 0), "upsample": 2, "upsample_phase": phase}
    assert_close(call(Opcode.CONV2D, y, [x, w], **geometry), exact, 1e-5)
    with pytest.raises(InputError, match="expected windows within the input"):
        call(Opcode.CONV2D, np.zeros((9, 9, 7), np.float16), [x, w], **geometry)


@given(st.integers(1, 13), st.integers(1, 300), st.integers(1, 40), st.booleans(), st.booleans())
def test_matrix_product_of_any_strides(m: int, k: int, n: int, left: bool, right: bool) -> None:
    a = half(k, m).T if left else half(m, k + 3)[:, 3:]
    b = half(n, k).T if right else half(k, 2 * n)[:, ::2]
    bias = half(n)
    exact = 0.125 * (a.astype(np.float64) @ b.astype(np.float64)) + bias.astype(np.float64)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64) + np.abs(bias)
    y = np.zeros((n, m), np.float16).T
    call(Opcode.MATMUL, y, [a, b, bias], scale=0.125, bias=1)
    assert_close(y, exact, chain_error(k, size))


def test_batches_of_products() -> None:
    a, b = half(2, 3, 5, 8), half(2, 3, 8, 4)
    y = call(Opcode.MATMUL, np.zeros((2, 3, 5, 4), np.float16), [a, b])
    assert_close(y, a.astype(np.float64) @ b.astype(np.float64), 1e-5)


@pytest.mark.parametrize("cuts", [(64,), (1, 300), (255, 256, 257)])
def test_no_cut_of_a_product_changes_a_bit(cuts: tuple[int, ...]) -> None:
    """Neither of rows and columns nor, accumulating, of the reduction."""
    a, b = half(103, 700), half(700, 37)
    whole = call(Opcode.MATMUL, np.zeros((103, 37), np.float32), [a, b])
    pieces = np.full((103, 37), np.nan, np.float32)
    for begin, end in zip((0, *cuts), (*cuts, 700), strict=True):
        for r, c in product((slice(0, 5), slice(5, 103)), (slice(0, 17), slice(17, 37))):
            part = [a[r, begin:end], b[begin:end, c]]
            call(Opcode.MATMUL, pieces[r, c], part, accumulate=int(begin > 0))
    np.testing.assert_array_equal(pieces, whole)


def test_wrong_shapes_and_accumulators_are_refused() -> None:
    with pytest.raises(InputError, match="expected an FP32 result to accumulate into"):
        call(Opcode.MATMUL, half(3, 3), [half(3, 3), half(3, 3)], accumulate=1)
    with pytest.raises(InputError, match=r"expected \[m,k\] x \[k,n\]"):
        call(Opcode.MATMUL, half(3, 3), [half(3, 4), half(3, 3)])
    with pytest.raises(InputError, match="expected weights for"):
        call(Opcode.CONV2D, half(3, 3, 2), [half(3, 3, 2), half(2, 3, 1, 1)], pads=(0,) * 4)


# Element by element


@pytest.mark.parametrize("name", UNARY)
def test_functions_are_correctly_rounded_for_every_fp16_number(name: str) -> None:
    y = call(Opcode.UNARY, np.empty_like(EVERY), [EVERY], function=name)
    with np.errstate(all="ignore"):
        exact = reference(name, EVERY)
        np.testing.assert_array_equal(
            y[np.isfinite(exact)], exact[np.isfinite(exact)].astype(np.float16)
        )
    assert np.isnan(y[np.isnan(EVERY)]).all()
    assert not np.isnan(y[~np.isnan(EVERY)]).any()


def test_an_unknown_function_is_refused() -> None:
    for opcode, inputs in ((Opcode.UNARY, 1), (Opcode.BINARY, 2), (Opcode.GLU, 2)):
        with pytest.raises(InputError, match="found function 'sine'"):
            call(opcode, half(3, 3), [half(3, 3)] * inputs, function="sine")


def test_exp32_is_within_two_ulp() -> None:
    x = np.linspace(-87.0, 88.0, 200_001).astype(np.float32)
    found = np.array([exp32(v) for v in x])
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(found - exact) / np.spacing(exact.astype(np.float32))).max() <= 2.0
    assert exp32(np.float32(-1000.0)) < 2e-38
    assert np.isnan(exp32(np.float32(np.nan)))


@pytest.mark.parametrize(
    ("name", "function"),
    [("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("div", np.divide),
     ("max", np.maximum), ("min", np.minimum)],
)  # fmt: skip
def test_binary_functions_are_correctly_rounded_and_broadcast(
    name: str, function: np.ufunc
) -> None:
    a, shape = half(6, 5, 40), (6, 5, 40)
    a[0, 0, :4] = [np.inf, -np.inf, np.nan, 0.0]
    rows = half(40)
    rows[3] = 0.0
    others = [half(*shape), np.broadcast_to(rows, shape), np.broadcast_to(half(6, 5, 1), shape),
              np.broadcast_to(half(1), shape), half(40, 5, 6).T]  # fmt: skip
    for b in others:
        with np.errstate(all="ignore"):
            exact = function(a.astype(np.float64), b.astype(np.float64)).astype(np.float16)
        np.testing.assert_array_equal(
            call(Opcode.BINARY, np.empty(shape, np.float16), [a, b], function=name), exact
        )
    in_place = a.copy()
    call(Opcode.BINARY, in_place, [in_place, in_place], function="add")
    np.testing.assert_array_equal(in_place, a + a)


@pytest.mark.parametrize("name", UNARY)
def test_gated_units(name: str) -> None:
    x = half(30, 80, scale=1.0 if UNARY[name].steep else 3.0)
    y = call(Opcode.GLU, np.empty((30, 40), np.float16), [x[:, :40], x[:, 40:]], function=name)
    assert_close(y, x[:, :40] * reference(name, x[:, 40:]), 1e-7, 0.51)


# Rows and groups


@pytest.mark.parametrize("n", [1, 7, 77, 4096])
@pytest.mark.parametrize("scale", [0.1, 20.0])
def test_softmax(n: int, scale: float) -> None:
    x = half(5, n, scale=scale)
    powers = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True).astype(np.float64))
    y = call(Opcode.SOFTMAX, np.empty_like(x), [x])
    assert_close(y, powers / powers.sum(axis=1, keepdims=True), 0.0, 0.51)
    in_place = x.copy()
    np.testing.assert_array_equal(call(Opcode.SOFTMAX, in_place, [in_place]), y)


def test_softmax_of_masked_and_broken_rows() -> None:
    x = np.array([[0.0, -np.inf, 0.0], [np.nan, 1.0, 2.0]], np.float16)
    y = call(Opcode.SOFTMAX, np.empty_like(x), [x])
    assert y[0].tolist() == [0.5, 0.0, 0.5]
    assert np.isnan(y[1]).all()


@pytest.mark.parametrize("given_beta", [True, False])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_layer_norm(given_beta: bool, offset: float) -> None:
    x = half(9, 65) + np.float16(offset)
    gamma, beta = half(65), half(65)
    wide = x.astype(np.float64)
    exact = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    exact = exact * gamma.astype(np.float64) + given_beta * beta.astype(np.float64)
    inputs = [x, gamma, beta] if given_beta else [x, gamma]
    y = call(Opcode.LAYER_NORM, np.empty_like(x), inputs, epsilon=1e-5)
    assert_close(y, exact, 3e-5 if offset else 2e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5])
def test_rms_norm(scale: float, epsilon: float) -> None:
    """Squares of the largest values too, which FP16 does not hold."""
    x, gamma = half(9, 65, scale=scale), half(65)
    wide = x.astype(np.float64)
    exact = wide / np.sqrt((wide**2).mean(1, keepdims=True) + epsilon) * gamma.astype(np.float64)
    y = call(Opcode.RMS_NORM, np.empty_like(x), [x, gamma], epsilon=epsilon)
    assert_close(y, exact, 3 * 2.0**-24 * np.abs(exact))
    zeros = np.zeros_like(x)
    assert not call(Opcode.RMS_NORM, y, [zeros, gamma], epsilon=epsilon).any()


def statistics(x: Array, *cuts: int) -> Array:
    acc = np.full((2, x.shape[1]), np.nan, np.float32)
    for begin, end in zip((0, *cuts), (*cuts, len(x)), strict=True):
        call(Opcode.CHANNEL_STATS, acc, [x[begin:end]], first=int(begin == 0))
    return acc


def test_statistics_do_not_depend_on_how_rows_are_cut() -> None:
    x = half(3001, 70)
    whole = statistics(x)
    for cuts in ((1,), (64, 128, 3000), (1500, 1502)):
        np.testing.assert_array_equal(statistics(x, *cuts), whole)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(whole[1], (wide**2).sum(0), rtol=1e-5)
    np.testing.assert_allclose(whole[0], wide.sum(0), atol=1e-5 * np.abs(wide).sum(0).max())
    part = np.zeros((2, 100), np.float32)
    call(Opcode.CHANNEL_STATS, part[:, 20:90], [x], first=1)
    np.testing.assert_array_equal(part[:, 20:90], whole)


@pytest.mark.parametrize("function", ["", "silu", "relu"])
@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_group_norm_of_a_large_image(function: str, offset: float) -> None:
    """65,536 rows. FP32 chains of statistics cost 2e-5; with a mean of ten deviations, where
    the variance cancels two digits, 1e-3 of the normalised value."""
    x = half(65536, 16) + np.float16(offset)
    gamma, beta = half(16), half(16)
    grouped = x.astype(np.float64).reshape(-1, 4, 4)
    centred = grouped - grouped.mean(axis=(0, 2), keepdims=True)
    exact = centred / np.sqrt(grouped.var(axis=(0, 2), keepdims=True) + 1e-5)
    exact = exact.reshape(x.shape) * gamma.astype(np.float64)
    blur = np.abs(exact) * (1e-3 if offset else 2e-5) + 1e-3 * bool(offset) + 1e-6
    exact = exact + beta.astype(np.float64)
    y = call(
        Opcode.GROUP_NORM,
        np.empty_like(x),
        [x, statistics(x), gamma, beta],
        groups=4,
        rows=65536,
        epsilon=1e-5,
        function=function,
    )
    if function == "relu":  # of the rounded value
        exact = np.maximum(rounded(exact), 0.0)
    elif function:
        exact = reference(function, exact)
    assert_close(y, exact, 1.1 * blur, 1.0 if function == "relu" else 0.5)


# Movement


@pytest.mark.parametrize("function", ["max", "average"])
@pytest.mark.parametrize("include", [0, 1])
def test_pooling(function: str, include: int) -> None:
    x = half(7, 9, 5)
    attrs = {
        "kernel": (3, 2),
        "strides": (2, 3),
        "pads": (1, 0, 1, 1),
        "count_include_pad": include,
    }
    fill = -np.inf if function == "max" else np.nan
    around = np.pad(x.astype(np.float64), ((1, 1), (0, 1), (0, 0)), constant_values=fill)
    exact = np.empty((4, 3, 5))
    for i, j in product(range(4), range(3)):
        window = around[2 * i : 2 * i + 3, 3 * j : 3 * j + 2]
        if function == "max":
            exact[i, j] = window.max(axis=(0, 1))
        else:
            total = np.nansum(window, axis=(0, 1))
            exact[i, j] = total / 6 if include else np.nanmean(window, axis=(0, 1))
    y = call(Opcode.POOL, np.empty(exact.shape, np.float16), [x], function=function, **attrs)
    assert_close(y, exact, 1e-7)


@pytest.mark.parametrize("function", ["mean", "sum", "max"])
@pytest.mark.parametrize("axis", [0, 1])
def test_reduction(function: str, axis: int) -> None:
    x = half(50, 30)
    exact = getattr(np, function)(x.astype(np.float64), axis=axis)
    y = np.empty((30,) if axis == 0 else (50, 1), np.float16)
    attrs = {"function": function, "axis": axis, "count": x.shape[axis]}
    call(Opcode.REDUCE, y, [x], first=1, last=1, **attrs)
    assert_close(y.reshape(-1), exact)
    if axis == 0:
        for begin, end in ((0, 20), (20, 40), (40, 50)):
            call(
                Opcode.REDUCE,
                y,
                [x[begin:end]],
                first=int(begin == 0),
                last=int(end == 50),
                **attrs,
            )
        largest = np.abs(x.astype(np.float64).cumsum(axis=0)).max(axis=0)
        largest = largest / 50 if function == "mean" else largest
        assert (np.abs(y - exact) <= 1.5 * ulp(largest)).all()


def test_enlargement_and_copies_keep_values() -> None:
    x = half(4, 5, 6)
    y = call(Opcode.RESIZE, np.empty((12, 15, 6), np.float16), [x], scale=3)
    np.testing.assert_array_equal(y, x.repeat(3, axis=0).repeat(3, axis=1))
    y = call(Opcode.COPY, np.empty((6, 4, 5), np.float16), [x.transpose(2, 0, 1)])
    np.testing.assert_array_equal(y, x.transpose(2, 0, 1))
    wide = RNG.standard_normal((4, 5)).astype(np.float32)
    y = call(Opcode.COPY, np.empty((4, 5), np.float16), [wide])
    np.testing.assert_array_equal(y, wide.astype(np.float16))
    np.testing.assert_array_equal(call(Opcode.COPY, np.empty_like(wide), [y]), y)


def test_tables_are_made_once() -> None:
    assert table16("silu") is table16("silu")
