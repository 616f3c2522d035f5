"""Products in parts of their reduction: the bits of one instruction, and of an exact reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.runtime.errors import InputError, UnsupportedOpError
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Array, Operands
from edgefusion.runtime.kernels.table import KERNELS
from edgefusion.runtime.opcodes import SPECIFICATIONS
from edgefusion.runtime.specification import Family
from edgefusion.runtime.tensor_numbers import PLAIN, ROW_NORMALISED, Numbers, steps_of

SEEDS = st.integers(0, 2**32)
X_STEP, Y_STEP = 1e-3, 0.05
EXTREMES = (-32768, 32767)


def run(
    opcode: Opcode,
    y: Array,
    inputs: Sequence[Array],
    x_numbers: Numbers | None = None,
    **attrs: Any,
) -> Array:
    """The kernel of ``opcode`` into ``y``; integers have steps."""
    family = Family.FP16 if inputs[0].dtype == np.float16 else Family.INT
    numbers = (x_numbers or steps_of(X_STEP), *(PLAIN for _ in inputs[1:]))
    if inputs[1].dtype == np.int16:
        numbers = (numbers[0], steps_of(X_STEP), *numbers[2:])
    ops = Operands((y,), tuple(inputs), (steps_of(Y_STEP),), numbers)
    KERNELS[opcode, family](ops, SPECIFICATIONS[opcode].complete(tuple(attrs.items())))
    return y


def rounded(acc: Array, real: Array) -> Array:
    """docs/arithmetic.md, section 2, in Python's integers; one multiplier for each column."""
    made = np.empty(acc.shape, np.int16)
    for at in np.ndindex(acc.shape):
        q, e = math.frexp(float(real[at[-1] % len(real)]))
        factor = math.floor(math.ldexp(q, 31) + 0.5)
        if factor == 1 << 31:
            factor, e = 1 << 30, e + 1
        r, shift = min((factor + (1 << 15)) >> 16, 32767), 15 - e
        made[at] = min(max((int(acc[at]) * r + (1 << (shift - 1))) >> shift, -32768), 32767)
    return made


def integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: type, extreme: bool) -> Array:
    low, high = (-127, 127) if dtype is np.int8 else EXTREMES
    if extreme:
        return rng.choice([low, high], shape).astype(dtype)
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


@settings(max_examples=60, deadline=None)
@given(
    SEEDS,
    st.tuples(st.integers(1, 9), st.integers(1, 700), st.integers(1, 40)),
    st.sets(st.integers(1, 699), max_size=4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_integer_products_are_cut_anywhere(
    seed: int,
    extents: tuple[int, int, int],
    cuts: set[int],
    weights: bool,
    batched: bool,
    extreme: bool,
) -> None:
    """INT8 weights with bias and scales a channel, or two activations."""
    rng, (m, k, n) = np.random.default_rng(seed), extents
    batch = (2,) if batched else ()
    a = integers(rng, (*batch, m, k), np.int16, extreme)
    b = integers(rng, (*batch, k, n), np.int8 if weights else np.int16, extreme)
    acc = a.astype(np.int64) @ b.astype(np.int64)
    real = np.array([1.0 / (1 + abs(acc).max())]) * 40000  # some saturate
    constants: list[Array] = []
    if weights:
        bias = rng.integers(-(1 << 20), 1 << 20, n)
        scales = (real * Y_STEP / X_STEP * rng.uniform(0.5, 2, n)).astype(np.float32)
        constants, acc = [bias, scales], acc + bias
        real = X_STEP * scales.astype(np.float64) / Y_STEP
    scale = 1.0 if weights else float(real[0]) * Y_STEP / X_STEP / X_STEP
    if not weights:
        real = np.array([X_STEP * X_STEP * scale / Y_STEP])
    attrs: dict[str, Any] = {"bias": int(weights), "scale": scale}
    whole = run(Opcode.MATMUL, np.empty(acc.shape, np.int16), [a, b, *constants], **attrs)
    np.testing.assert_array_equal(whole, rounded(acc, real))

    edges = [0, *sorted(c for c in cuts if c < k), k]
    sums = np.full(acc.shape, 1 << 60, np.int64)
    for first, end in pairwise(edges[:-1]):
        run(
            Opcode.MATMUL,
            sums,
            [a[..., first:end], b[..., first:end, :]],
            accumulate=int(first > 0),
        )
    if len(edges) > 2:
        last = [a[..., edges[-2] :], b[..., edges[-2] :, :], *constants, sums]
        found = run(Opcode.MATMUL, np.empty(acc.shape, np.int16), last, sums=1, **attrs)
        np.testing.assert_array_equal(found, whole)


@dataclass(frozen=True)
class Geometry:
    """Of a convolution of a 7 x 6 image (before enlargement)."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    upsample: int
    phase: tuple[int, int]
    groups: int

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = (
            (
                extent * self.upsample
                - self.phase[i]
                + self.pads[i]
                + self.pads[i + 2]
                - (self.kernel[i] - 1) * self.dilations[i]
                - 1
            )
            // self.strides[i]
            + 1
            for i, extent in enumerate((7, 6))
        )
        return rows, columns

    @property
    def exact_pads(self) -> tuple[int, ...]:
        """``pads`` without rows and columns at the end that no window reaches."""
        after = [
            (self.shape[i] - 1) * self.strides[i]
            + (self.kernel[i] - 1) * self.dilations[i]
            + 1
            - self.pads[i]
            - (extent * self.upsample - self.phase[i])
            for i, extent in enumerate((7, 6))
        ]
        return (*self.pads[:2], *after)

    def attrs(self, rows: slice, columns: slice) -> dict[str, Any]:
        """Those of the part of the kernel."""
        top, left, bottom, right = self.exact_pads
        (kh, kw), (down, across) = self.kernel, self.dilations
        return {
            "strides": self.strides,
            "dilations": self.dilations,
            "groups": self.groups,
            "upsample": self.upsample,
            "upsample_phase": self.phase,
            "pads": (
                top - rows.start * down,
                left - columns.start * across,
                bottom - (kh - rows.stop) * down,
                right - (kw - columns.stop) * across,
            ),
        }

    def taps(self, x: Array) -> dict[tuple[int, int], Array]:
        """What each tap of the kernel meets, [rows, columns, channels]."""
        large = x.repeat(self.upsample, 0).repeat(self.upsample, 1)
        large = large[self.phase[0] :, self.phase[1] :]
        large = np.pad(large, ((self.pads[0], 9), (self.pads[1], 9), (0, 0)))
        rows, columns = self.shape
        met = {}
        for i, j in product(range(self.kernel[0]), range(self.kernel[1])):
            from_row, from_column = i * self.dilations[0], j * self.dilations[1]
            met[i, j] = large[
                from_row : from_row + rows * self.strides[0] : self.strides[0],
                from_column : from_column + columns * self.strides[1] : self.strides[1],
            ]
            # Whatever lies beyond the declared padding is zero as well.
        return met

    def sums(self, x: Array, w: Array) -> Array:
        """The accumulators, in the type of the operands."""
        made = np.zeros((*self.shape, w.shape[0]), x.dtype)
        filters, depth = w.shape[0] // self.groups, w.shape[1]
        for (i, j), met in self.taps(x).items():
            for g in range(self.groups):
                mine = slice(g * filters, (g + 1) * filters)
                made[..., mine] += met[..., g * depth : (g + 1) * depth] @ w[mine, :, i, j].T
        return made


GEOMETRIES = st.builds(
    Geometry,
    st.sampled_from([(1, 1), (3, 3), (2, 3), (5, 1)]),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.sampled_from([(1, 1), (2, 1)]),
    st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (4, 0, 2, 3)]),
    st.integers(1, 2),
    st.sampled_from([(0, 0), (1, 1)]),
    st.sampled_from([1, 2]),
).filter(lambda g: g.upsample > max(g.phase) and min(g.shape) > 0)


def ranges(total: int, cuts: Sequence[int]) -> list[slice]:
    edges = [0, *sorted({c for c in cuts if 0 < c < total}), total]
    return [slice(a, b) for a, b in pairwise(edges)]


def in_parts(
    g: Geometry, x: Array, w: Array, y: Array, parts: Any, constants: list[Array]
) -> Array:
    """``y`` from ``parts`` (kernel rows, kernel columns, channels of one group)."""
    wide = np.float32 if x.dtype == np.float16 else np.int64
    sums = np.full(y.shape, 7, wide)
    bias: dict[str, Any] = {"bias": int(bool(constants))}
    for number, (rows, columns, channels) in enumerate(parts):
        attrs = g.attrs(rows, columns)
        inputs = [x if g.groups > 1 else x[..., channels], w[:, channels, rows, columns]]
        if number < len(parts) - 1:
            run(Opcode.CONV2D, sums, inputs, accumulate=int(number > 0), **attrs)
        elif number:
            run(Opcode.CONV2D, y, [*inputs, *constants, sums], sums=1, **bias, **attrs)
        else:
            run(Opcode.CONV2D, y, [*inputs, *constants], **bias, **attrs)
    return y


@settings(max_examples=80, deadline=None)
@given(SEEDS, GEOMETRIES, st.lists(st.integers(1, 69), max_size=3), st.booleans(), st.booleans())
def test_integer_convolutions_are_cut_by_channels_and_by_taps(
    seed: int, g: Geometry, cuts: list[int], by_taps: bool, extreme: bool
) -> None:
    rng, filters, depth = np.random.default_rng(seed), 6, 70 // g.groups
    x = integers(rng, (7, 6, g.groups * depth), np.int16, extreme)
    w = integers(rng, (filters, depth, *g.kernel), np.int8, extreme)
    bias = rng.integers(-(1 << 20), 1 << 20, filters)
    scales = (rng.uniform(1, 2, filters) * 0.02 / (1 + w[0].size)).astype(np.float32)
    acc = g.sums(x.astype(np.int64), w.astype(np.int64)) + bias
    shape = (*g.shape, filters)
    everything = (slice(0, g.kernel[0]), slice(0, g.kernel[1]), slice(0, depth))
    whole = in_parts(g, x, w, np.empty(shape, np.int16), [everything], [bias, scales])
    real = X_STEP * scales.astype(np.float64) / Y_STEP
    np.testing.assert_array_equal(whole, rounded(acc, real))
    # Groups lie apart in x, so a range of the channels of each is not one view of it.
    channels = ranges(depth, cuts if g.groups == 1 else [])
    taps = [everything[:2]]
    if by_taps:
        rows, columns = (ranges(n, range(1, n)) for n in g.kernel)
        taps = list(product(rows, columns))
    parts = [(*tap, part) for part in channels for tap in taps]
    found = in_parts(g, x, w, np.empty(shape, np.int16), parts, [bias, scales])
    np.testing.assert_array_equal(found, whole)


@settings(max_examples=60, deadline=None)
@given(SEEDS, GEOMETRIES, st.lists(st.integers(1, 39), max_size=2), st.booleans())
def test_half_precision_convolutions_are_cut_in_the_order_of_their_chain(
    seed: int, g: Geometry, cuts: list[int], whole_rows: bool
) -> None:
    rng, filters, depth = np.random.default_rng(seed), 6, 40 // g.groups
    x = (rng.standard_normal((7, 6, g.groups * depth)) * 30).astype(np.float16)
    w = rng.standard_normal((filters, depth, *g.kernel)).astype(np.float16)
    bias = rng.standard_normal(filters).astype(np.float16)
    exact = g.sums(x.astype(np.float64), w.astype(np.float64)) + bias.astype(np.float64)
    shape = (*g.shape, filters)
    everything = (slice(0, g.kernel[0]), slice(0, g.kernel[1]), slice(0, depth))
    whole = in_parts(g, x, w, np.empty(shape, np.float16), [everything], [bias])
    size = g.sums(np.abs(x).astype(np.float64), np.abs(w).astype(np.float64))
    blur = np.abs(exact) * 2.0**-11 + size * w[0].size * 2.0**-23 + 1e-6
    assert (np.abs(whole - exact) <= blur).all()
    rows, columns = (ranges(n, range(1, n)) for n in g.kernel)
    if whole_rows:
        parts = [(row, everything[1], everything[2]) for row in rows]
    else:
        channels = ranges(depth, cuts if g.groups == 1 else [])
        parts = list(product(rows, columns, channels))
    found = in_parts(g, x, w, np.empty(shape, np.float16), parts, [bias])
    np.testing.assert_array_equal(found.view(np.uint16), whole.view(np.uint16))


@pytest.mark.parametrize("cuts", [[1], [64, 65], [255, 256, 511]])
def test_half_precision_products_are_cut_anywhere(cuts: list[int]) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2, 13, 700)).astype(np.float16)
    b = rng.standard_normal((2, 700, 37)).astype(np.float16)
    bias = rng.standard_normal(37).astype(np.float16)
    attrs: dict[str, Any] = {"bias": 1, "scale": 0.125}
    whole = run(Opcode.MATMUL, np.empty((2, 13, 37), np.float16), [a, b, bias], **attrs)
    sums = np.full(whole.shape, np.nan, np.float32)
    *parts, last = ranges(700, cuts)
    for part in parts:
        run(Opcode.MATMUL, sums, [a[..., part], b[:, part]], accumulate=int(part.start > 0))
    inputs: list[Array] = [a[..., last], b[:, last], bias, sums]
    found = run(Opcode.MATMUL, np.empty(whole.shape, np.float16), inputs, sums=1, **attrs)
    np.testing.assert_array_equal(found.view(np.uint16), whole.view(np.uint16))


def test_sums_of_another_type_or_shape_are_refused() -> None:
    a, b = np.ones((4, 2), np.int16), np.ones((2, 3), np.int8)
    y, scales = np.empty((4, 3), np.int16), np.ones(3, np.float32)
    for sums in (np.ones((4, 3), np.int32), np.ones((4, 2), np.int64)):
        with pytest.raises(InputError, match="expected INT64 sums"):
            run(Opcode.MATMUL, y, [a, b, scales, sums], sums=1)
    with pytest.raises(InputError, match="to finish an INT16 result from"):
        run(Opcode.MATMUL, np.ones((4, 3), np.int64), [a, b, np.ones((4, 3), np.int64)], sums=1)
    with pytest.raises(InputError, match="expected an INT64 result to accumulate into"):
        run(Opcode.MATMUL, y, [a, b, scales], accumulate=1)
    x, w = np.ones((4, 3, 2), np.int16), np.ones((3, 2, 1, 1), np.int8)
    with pytest.raises(InputError, match="expected an INT64 result to accumulate into"):
        run(Opcode.CONV2D, np.empty((4, 3, 3), np.int16), [x, w, scales], accumulate=1)
    exponentials: list[Array] = [a, np.ones((2, 3), np.int16), np.ones((4, 3), np.int64)]
    with pytest.raises(UnsupportedOpError, match="cannot start from sums"):
        run(Opcode.MATMUL, y, exponentials, ROW_NORMALISED, sums=1)
    half: list[Array] = [np.ones((4, 2), np.float16), np.ones((2, 3), np.float16)]
    with pytest.raises(InputError, match="expected FP32 sums"):
        run(Opcode.MATMUL, y.astype(np.float16), [*half, np.ones((4, 3), np.float16)], sums=1)
