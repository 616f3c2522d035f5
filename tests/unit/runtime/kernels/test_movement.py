import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Operands
from edgefusion.runtime.kernels.movement import quantize
from edgefusion.runtime.kernels.table import KERNELS
from edgefusion.runtime.specification import Family
from edgefusion.runtime.tensor_numbers import PLAIN, steps_of
from tests.kernel_cases import call, lsb_error

RNG = np.random.default_rng(0)
X = RNG.integers(-32768, 32768, (6, 8, 5)).astype(np.int16)


def test_transposing_copy_keeps_values_of_equal_scales() -> None:
    y = call(Opcode.COPY, np.empty((8, 6, 5), np.int16), 1e-3, [(X.transpose(1, 0, 2), 1e-3)])
    np.testing.assert_array_equal(y, X.transpose(1, 0, 2))


@given(st.floats(1e-5, 1.0), st.floats(1e-5, 1.0))
def test_copy_to_another_scale(x_scale: float, y_scale: float) -> None:
    y = call(Opcode.COPY, np.empty_like(X), y_scale, [(X, x_scale)])
    assert lsb_error(y, y_scale, X * x_scale) <= 1.5


def test_floats_and_back() -> None:
    halves = call(Opcode.COPY, np.empty(X.shape, np.float16), PLAIN, [(X, 1e-3)])
    np.testing.assert_array_equal(halves, (X * 1e-3).astype(np.float16))
    back = np.empty_like(X)
    KERNELS[Opcode.COPY, Family.FLOAT_TO_INT](
        Operands((back,), (halves,), (steps_of(1e-3),), (PLAIN,)), {}
    )
    assert lsb_error(back, 1e-3, halves.astype(float)) <= 0.5


def test_floats_round_half_up_and_saturate() -> None:
    values = np.array([0.5, -0.5, 1.5, -1.5, np.inf, -np.inf, np.nan], np.float32)
    y = np.empty(7, np.int16)
    quantize(Operands((y,), (values,), (steps_of(1.0),), (PLAIN,)), {})
    np.testing.assert_array_equal(y, [1, 0, 2, -1, 32767, -32768, 0])


def test_resize_repeats() -> None:
    y = call(Opcode.RESIZE, np.empty((12, 16, 5), np.int16), 1.0, [(X, 1.0)], scale=2)
    np.testing.assert_array_equal(y, X.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("function", ["max", "average"])
def test_pool(function: str, include: int) -> None:
    attrs = {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    y = np.empty((3, 4, 5), np.int16)
    call(Opcode.POOL, y, 2e-3, [(X, 1e-3)], function=function, count_include_pad=include, **attrs)
    for i in range(3):
        for j in range(4):
            part = X[max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2].astype(float)
            real = part.max((0, 1))
            if function == "average":
                real = part.sum((0, 1)) / (9 if include else part.shape[0] * part.shape[1])
            assert lsb_error(y[i, j], 2e-3, real * 1e-3) <= 1.0


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("function", ["mean", "sum", "max"])
def test_reduce(function: str, axis: int) -> None:
    x = X.reshape(48, 5)
    shape = (5,) if axis == 0 else (48, 1)
    real = getattr(x.astype(float), function)(axis=axis).reshape(shape) * 1e-3
    y_scale = float(np.abs(real).max()) / 32000
    attrs = {"function": function, "axis": axis, "count": x.shape[axis], "first": 1, "last": 1}
    y = call(Opcode.REDUCE, np.empty(shape, np.int16), y_scale, [(x, 1e-3)], **attrs)
    assert lsb_error(y, y_scale, real) <= 1.5


@pytest.mark.parametrize("function", ["mean", "sum"])
def test_a_sum_may_be_split_if_it_is_carried_in_int64(function: str) -> None:
    """To the same bits as one instruction gives, whatever the scales."""
    x = X.reshape(48, 5)
    for y_scale in RNG.uniform(1e-4, 1e-1, 20):
        attrs = {"function": function, "axis": 0, "count": 48}
        whole = np.empty(5, np.int16)
        call(Opcode.REDUCE, whole, y_scale, [(x, 1e-3)], first=1, last=1, **attrs)
        sums = np.full(5, 77, np.int64)
        for i, part in enumerate((x[:20], x[20:45], x[45:])):
            call(Opcode.REDUCE, sums, 1e-3, [(part, 1e-3)], first=int(i == 0), last=i // 2, **attrs)
        count = 48 if function == "mean" else 1
        y = call(Opcode.COPY, np.empty(5, np.int16), y_scale, [(sums, 1e-3)], count=count)
        np.testing.assert_array_equal(y, whole)


def test_a_maximum_may_be_split_but_not_a_sum() -> None:
    x = X.reshape(48, 5)
    y = np.empty(5, np.int16)
    for i, part in enumerate((x[:20], x[20:])):
        attrs = {"axis": 0, "count": 48, "first": int(i == 0), "last": i}
        call(Opcode.REDUCE, y, 1.0, [(part, 1.0)], function="max", **attrs)
    np.testing.assert_array_equal(y, x.max(0))
    with pytest.raises(UnsupportedOpError, match="cannot hold a partial sum"):
        call(Opcode.REDUCE, y, 1.0, [(x, 1.0)], function="sum", axis=0, count=48, first=1, last=0)
