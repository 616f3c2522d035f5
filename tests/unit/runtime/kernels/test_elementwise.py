import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.functions import BINARY, UNARY
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.kernels.elementwise import gate_result_scale
from edgefusion.runtime.kernels.lookup import segment_bits
from tests.function_reference import reference
from tests.kernel_cases import call, lsb_error

X = np.arange(-32768, 32768)
INT16 = X.astype(np.int16)
TABULATED = [name for name, row in UNARY.items() if row.ceiling is None]
REQUANTIZED = [name for name, row in UNARY.items() if row.ceiling is not None]
GENTLE = [
    name
    for name in TABULATED
    if not UNARY[name].steep and not UNARY[name].bends_at_zero and name != "hard_sigmoid"
]


def interpolation_error(name: str, x_scale: float) -> Array:
    """|f - its linear interpolation| of all inputs, real units, from the specified intervals."""
    error = np.zeros(65536)
    for bits in segment_bits(name, x_scale):
        inside = np.abs(X + 0.5) < 1 << (bits + 8)
        x = X[inside]
        left = (x >> bits) << bits
        weight = (x - left) / (1 << bits)
        ends = [reference(name, at * x_scale) for at in (left, left + (1 << bits))]
        line = ends[0] + (ends[1] - ends[0]) * weight
        error[inside] = np.abs(reference(name, x * x_scale) - line)
    return error


@pytest.mark.parametrize("reach", [0.1, 1.0, 8.0, 50.0, 300.0])
@pytest.mark.parametrize("name", TABULATED)
def test_tables(name: str, reach: float) -> None:
    """Bound: 0.51 steps and the error of linear interpolation, wherever y does not saturate."""
    x_scale = reach / 32767
    real = reference(name, X * x_scale)
    for y_scale in (np.abs(real).max() / 32767, np.abs(real).max() / 10000):
        y = call(Opcode.UNARY, np.empty_like(INT16), y_scale, [(INT16, x_scale)], function=name)
        error = np.abs(y - np.clip(real / y_scale, -32768, 32767))
        assert np.all(error <= 0.51 + interpolation_error(name, x_scale) / y_scale)


@pytest.mark.parametrize("reach", [0.1, 1.0, 8.0, 50.0, 300.0])
@pytest.mark.parametrize("name", GENTLE)
def test_tables_are_within_two_steps(name: str, reach: float) -> None:
    """Steep ones are not: over a wide range their last intervals bend too much.

    Nor is the hard sigmoid, whose corners lie inside intervals.
    """
    x_scale = reach / 32767
    real = reference(name, X * x_scale)
    y_scale = float(np.abs(real).max()) / 32767
    y = call(Opcode.UNARY, np.empty_like(INT16), y_scale, [(INT16, x_scale)], function=name)
    assert lsb_error(y, y_scale, real) <= 1.6


@pytest.mark.parametrize("reach", [1e-4, 1.0, 300.0, 1e6])
def test_the_table_of_a_root_is_as_good_as_its_input(reach: float) -> None:
    """From 64 steps on within 0.76 steps; below, less wrong than half a step of x makes it."""
    x_scale = reach / 32767
    y_scale = float(np.sqrt(reach)) / 32767
    y = call(Opcode.UNARY, np.empty_like(INT16), y_scale, [(INT16, x_scale)], function="sqrt")
    steps = np.maximum(X, 0)
    error = np.abs(y - reference("sqrt", steps * x_scale) / y_scale)
    assert error[X >= 64].max() <= 0.76
    near = (X >= 1) & (X < 64)
    half = reference("sqrt", steps * x_scale) - reference("sqrt", (steps - 0.5) * x_scale)
    assert (error[near] <= 0.51 + half[near] / y_scale).all()
    assert not y[X <= 0].any()


@given(st.floats(1e-6, 1e-1), st.floats(1e-6, 1e-1))
@settings(deadline=None)
def test_relu_is_a_requantization(x_scale: float, y_scale: float) -> None:
    for name in REQUANTIZED:
        y = call(Opcode.UNARY, np.empty_like(INT16), y_scale, [(INT16, x_scale)], function=name)
        assert lsb_error(y, y_scale, reference(name, X * x_scale)) <= 1.5


@pytest.mark.parametrize("reach", [3.0, 6.0, 8.0, 100.0])
@pytest.mark.parametrize("y_reach", [2.0, 6.0, 7.5, 50.0])
def test_relu6_is_the_clip_of_onnx_runtime(reach: float, y_reach: float) -> None:
    """All inputs, whether 6 saturates or lies inside; bound: a requantization's."""
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[65536] x) => (float[65536] y) '
        "<float low = {0.0}, float high = {6.0}> { y = Clip(x, low, high) }"
    )
    session = ort.InferenceSession(graph.SerializeToString())
    x_scale, y_scale = reach / 32767, y_reach / 32767
    (real,) = session.run(None, {"x": (X * x_scale).astype(np.float32)})
    y = call(Opcode.UNARY, np.empty_like(INT16), y_scale, [(INT16, x_scale)], function="relu6")
    expected = np.clip(real / y_scale, -32768, 32767)
    assert (np.abs(y - expected) <= 0.5 + np.abs(expected) * 2.0**-14).all()
    assert y.max() == min(int(6 / y_scale + 0.5), 32767) if reach > 6 else y.max() > 0


def test_unknown_function() -> None:
    with pytest.raises(UnsupportedOpError, match="no table for 'erfc'"):
        call(Opcode.UNARY, INT16.copy(), 1.0, [(INT16, 1.0)], function="erfc")


SCALES = st.floats(1e-6, 1.0)


@settings(deadline=None)
@given(st.integers(0, 2**32), SCALES, SCALES, SCALES)
def test_sums_and_products(seed: int, a_scale: float, b_scale: float, y_scale: float) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(-32768, 32768, (6, 9)).astype(np.int16)
    b = rng.integers(-32768, 32768, 9).astype(np.int16)
    a[0, 0], b[0] = -32768, -32768
    wide = np.broadcast_to(b, a.shape)
    left, right = a * a_scale, wide * b_scale
    largest = max(a_scale, b_scale) / y_scale
    results = {
        "add": (left + right, 0.5 + largest * 2.0**-13),
        "sub": (left - right, 0.5 + largest * 2.0**-13),
        "max": (np.maximum(left, right), 0.5 + largest * 2.0**-13),
        "min": (np.minimum(left, right), 0.5 + largest * 2.0**-13),
        "mul": (left * right, 1.5),
    }
    assert {*results, "div"} == set(BINARY)  # quotients below
    for name, (real, bound) in results.items():
        y = np.empty_like(a)
        call(Opcode.BINARY, y, y_scale, [(a, a_scale), (wide, b_scale)], function=name)
        assert lsb_error(y, y_scale, real) <= bound


def test_addition_in_place() -> None:
    a, b = INT16.reshape(256, 256).copy(), INT16[::-1].reshape(256, 256).copy()
    expected = call(Opcode.BINARY, np.empty_like(a), 2.0, [(a, 1.0), (b, 2.0)], function="add")
    call(Opcode.BINARY, a, 2.0, [(a, 1.0), (b, 2.0)], function="add")
    np.testing.assert_array_equal(a, expected)


@settings(deadline=None)
@given(st.integers(0, 2**32), SCALES, SCALES, SCALES)
def test_quotients(seed: int, a_scale: float, b_scale: float, y_scale: float) -> None:
    """Bound: the factor's 15 bits; divisors of all sizes and both signs, repeated by row."""
    rng = np.random.default_rng(seed)
    a = rng.integers(-32768, 32768, (6, 9)).astype(np.int16)
    b = (rng.integers(1, 32769, 9) >> rng.integers(0, 15, 9)) * rng.choice([-1, 1], 9)
    b = np.clip(np.where(b == 0, 1, b), -32768, 32767).astype(np.int16)
    wide = np.broadcast_to(b, a.shape)
    y = np.empty_like(a)
    call(Opcode.BINARY, y, y_scale, [(a, a_scale), (wide, b_scale)], function="div")
    real = np.clip((a * a_scale) / (wide * b_scale) / y_scale, -32768, 32767)
    assert (np.abs(y - real) <= 0.5 + np.abs(real) * 2.0**-15 + 1e-9).all()


def test_quotients_round_half_up_and_zero_divides_as_one() -> None:
    a = np.array([3, -3, 5, -5, 7, -7, 0, 9], np.int16)
    b = np.array([2, 2, -2, -2, 0, 0, 0, 1], np.int16)
    y = call(Opcode.BINARY, np.empty_like(a), 1.0, [(a, 1.0), (b, 1.0)], function="div")
    np.testing.assert_array_equal(y, [2, -1, -2, 3, 7, -7, 0, 9])


def test_unknown_operators_are_refused() -> None:
    with pytest.raises(UnsupportedOpError, match="no integer 'pow'"):
        call(Opcode.BINARY, INT16.copy(), 1.0, [(INT16, 1.0), (INT16, 1.0)], function="pow")


@pytest.mark.parametrize("name", [name for name in UNARY if not UNARY[name].steep])
@settings(deadline=None)
@given(seed=st.integers(0, 2**32), v_scale=SCALES, g_scale=SCALES)
def test_gated_units(name: str, seed: int, v_scale: float, g_scale: float) -> None:
    """Bound: the table's error times the value, and the rounding of the product."""
    rng = np.random.default_rng(seed)
    halves = rng.integers(-32768, 32768, (7, 20)).astype(np.int16)
    value, gate = halves[:, :10], halves[:, 10:]
    real = value * v_scale * reference(name, gate * g_scale)
    y_scale = float(np.abs(real).max()) / 32767
    y = np.empty((7, 10), np.int16)
    call(Opcode.GLU, y, y_scale, [(value, v_scale), (gate, g_scale)], function=name)
    f_scale = gate_result_scale(name, g_scale)
    table = 0.51 * f_scale + interpolation_error(name, g_scale)[gate.astype(int) + 32768]
    bound = 1.5 + table * np.abs(value) * v_scale / y_scale
    assert np.all(np.abs(y - np.clip(real / y_scale, -32768, 32767)) <= bound)
