import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels import gemm
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.kernels.requantize import multipliers, requantize_array
from edgefusion.runtime.tensor_numbers import PLAIN, ROW_NORMALISED
from tests.kernel_cases import call, lsb_error

SEEDS = st.integers(0, 2**32)


def operands(seed: int, m: int, k: int, n: int, dtype: type) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    limits = (-127, 128) if dtype is np.int8 else (-32768, 32768)
    a = rng.integers(-32768, 32768, (m, k)).astype(np.int16)
    b = rng.integers(*limits, (k, n)).astype(dtype)
    if seed % 3 == 0:  # the ends of the ranges, in runs that make the largest sums
        a = np.where(a < 0, -32768, 32767).astype(np.int16)
        b[:] = limits[0]
    return a, b


@settings(max_examples=40, deadline=None)
@given(
    SEEDS,
    st.integers(1, 60),
    st.integers(1, 1500),
    st.integers(1, 50),
    st.booleans(),
    st.booleans(),
)
def test_accumulators_are_exact(
    seed: int, m: int, k: int, n: int, wide: bool, transposed: bool
) -> None:
    a, b = operands(seed, m, k, n, np.int16 if wide else np.int8)
    if transposed:
        b = np.ascontiguousarray(b.T).T
    y = call(Opcode.MATMUL, np.empty((m, n), np.int64), PLAIN, [(a, 1.0), (b, 1.0)], bias=0)
    np.testing.assert_array_equal(y, a.astype(np.int64) @ b.astype(np.int64))


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_float64_strategy_agrees(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = operands(3, 50, 1100, 33, dtype)
    rows, scale = gemm.matrix_rows(a), multipliers(1e-9)
    results = []
    for way in ("multiply_add", "float64"):
        monkeypatch.setattr(gemm, "strategy", lambda way=way: way)
        y = np.empty((50, 33), np.int16)
        gemm.requantized(rows, b[None], np.arange(33) * 1000, scale, y)
        results.append(y)
    np.testing.assert_array_equal(*results)


def test_the_self_test_finds_a_wrong_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm.madd, "MAX_TERMS", 20)  # too short to leave INT32: must still pass
    assert gemm._self_test() is gemm.madd.is_available() or not gemm.madd.is_available()
    monkeypatch.setattr(gemm, "_run", lambda *args: None)
    assert not gemm._self_test()


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.data())
def test_results_do_not_depend_on_tiles(seed: int, data: st.DataObject) -> None:
    m, k, n = 37, 90, 43
    a, b = operands(seed, m, k, n, np.int8)
    rng = np.random.default_rng(seed)
    bias, scales = rng.integers(-(10**6), 10**6, n), rng.uniform(1e-3, 1e-2, n).astype(np.float32)

    def run(rows: slice, columns: slice) -> Array:
        y = np.empty((m, n), np.int16)[rows, columns].copy()
        inputs = [
            (a[rows], 1e-3),
            (np.ascontiguousarray(b[:, columns]), PLAIN),
            (bias[columns], PLAIN),
            (scales[columns], PLAIN),
        ]
        return call(Opcode.MATMUL, y, 0.02, inputs, bias=1)

    whole = run(slice(0, m), slice(0, n))
    r, c = data.draw(st.integers(1, m - 1)), data.draw(st.integers(1, n - 1))
    tiles = [
        [run(rows, columns) for columns in (slice(0, c), slice(c, n))]
        for rows in (slice(0, r), slice(r, m))
    ]
    np.testing.assert_array_equal(np.block(tiles), whole)
    real = (a.astype(float) @ b + bias) * 1e-3 * scales.astype(float)
    assert lsb_error(whole, 0.02, real) <= 0.5 + 32768 * 2.0**-15


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 199))
def test_streamed_keys_give_the_same_result(seed: int, split: int) -> None:
    """Exponentials times V in two parts, row sums in an extra column, as in one instruction."""
    a, v = operands(seed, 9, 200, 20, np.int16)
    exponentials = np.abs(a.astype(np.int32) // 2).astype(np.int16)
    whole = call(
        Opcode.MATMUL,
        np.empty((9, 20), np.int16),
        2e-3,
        [(exponentials, ROW_NORMALISED), (v, 1e-3)],
        bias=0,
    )
    total = np.empty((9, 21), np.int64)
    for i, part in enumerate((slice(0, split), slice(split, 200))):
        inputs = [(exponentials[:, part], ROW_NORMALISED), (v[part], 1e-3)]
        call(Opcode.MATMUL, total, PLAIN, inputs, bias=0, accumulate=int(i > 0))
    y = call(Opcode.COPY, np.empty((9, 20), np.int16), 2e-3, [(total, 1e-3)])
    np.testing.assert_array_equal(y, whole)
    real = (exponentials.astype(float) @ v) / exponentials.sum(1, keepdims=True, dtype=float) * 1e-3
    assert lsb_error(whole, 2e-3, real) <= 0.5 + 32768 * 2.0**-15


def test_exponentials_need_a_column_for_their_row_sums() -> None:
    a, v = operands(1, 4, 10, 3, np.int16)
    inputs = [(a, ROW_NORMALISED), (v, 1e-3)]
    with pytest.raises(UnsupportedOpError, match="one column more than V"):
        call(Opcode.MATMUL, np.empty((4, 3), np.int64), PLAIN, inputs, bias=0, accumulate=0)


def test_accumulated_sums_are_requantized_by_a_copy() -> None:
    a, b = operands(1, 8, 100, 12, np.int16)
    total = np.empty((8, 12), np.int64)
    for i, part in enumerate((slice(0, 30), slice(30, 100))):
        inputs = [(a[:, part], 1e-4), (b[part], 1e-4)]
        call(Opcode.MATMUL, total, PLAIN, inputs, bias=0, accumulate=int(i > 0))
    y = call(Opcode.COPY, np.empty((8, 12), np.int16), 4e-3, [(total, 1e-4 * 1e-4)])
    expected = requantize_array(
        a.astype(np.int64) @ b.astype(np.int64), multipliers(1e-4 * 1e-4 / 4e-3)
    )
    np.testing.assert_array_equal(y, expected)


def test_a_floating_bias_is_brought_to_accumulator_steps() -> None:
    a, b = operands(1, 4, 10, 3, np.int8)
    scales = np.array([1e-3, 2e-3, 3e-3], np.float32)
    real = np.array([1.5, -2.0, 0.25], np.float32)
    steps = np.rint(real.astype(float) / (1e-3 * scales.astype(float))).astype(np.int64)
    results = [
        call(
            Opcode.MATMUL,
            np.empty((4, 3), np.int16),
            0.01,
            [(a, 1e-3), (b, PLAIN), (bias, PLAIN), (scales, PLAIN)],
            bias=1,
        )
        for bias in (real, steps)
    ]
    np.testing.assert_array_equal(*results)
