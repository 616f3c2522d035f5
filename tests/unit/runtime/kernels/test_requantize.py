from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.kernels.requantize import (
    MODE_BITS,
    Multipliers,
    multipliers,
    requantize_array,
)

ACC = (1 << 47) - 1


def exact(acc: int, factor: int, shift: int) -> int:
    """The specification in rationals: floor(acc * factor / 2^shift + 1/2), clamped."""
    value = Fraction(acc * factor) / (Fraction(2) ** shift)
    rounded = floor(value + Fraction(1, 2))
    return min(max(rounded, -32768), 32767)


@pytest.mark.parametrize("mode", MODE_BITS)
@settings(deadline=None)  # the first call compiles
@given(
    acc=st.integers(-ACC, ACC) | st.integers(-300, 300),
    real=st.floats(1e-30, 1e12) | st.integers(-80, 30).map(lambda e: 2.0**e),
)
@example(acc=ACC, real=1e-15)
@example(acc=-ACC, real=1e-15)
@example(acc=-1, real=0.5)
@example(acc=1, real=0.5)
@example(acc=-3, real=2.0**-64)
@example(acc=-1, real=2.0**40)
def test_every_mode_rounds_half_up(mode: str, acc: int, real: float) -> None:
    scale = multipliers(real, mode)
    got = requantize_array(np.array([acc]), scale)[0]
    assert got == exact(acc, int(scale.factors[0]), int(scale.shifts[0]))


@settings(deadline=None)
@given(
    acc=st.integers(-ACC, ACC),
    factor=st.integers(1 << 52, (1 << 53) - 1),
    shift=st.integers(-20, 126),
)
def test_wide_arithmetic(acc: int, factor: int, shift: int) -> None:
    scale = Multipliers(np.array([factor]), np.array([shift]), wide=True)
    assert requantize_array(np.array([acc]), scale)[0] == exact(acc, factor, shift)


@given(real=st.floats(1e-300, 1e100))
def test_multiplier_errors(real: float) -> None:
    """The factor is within 2^-15 (tflite15, where it is cut to 15 bits) of the real multiplier."""
    for mode, bound in (("tflite15", 2.0**-15), ("q31", 2.0**-31), ("exact", 0.0)):
        m = multipliers(real, mode)
        exponent = int(m.shifts[0])
        if exponent < 63:
            value = Fraction(int(m.factors[0])) / Fraction(2) ** exponent
            assert abs(value / Fraction(real) - 1) <= bound


def test_tflite_factor_of_a_mantissa_that_rounds_up() -> None:
    below_one = np.nextafter(1.0, 0.0)
    m = multipliers(below_one)
    assert (m.factors[0], m.shifts[0]) == (16384, 14)
    assert multipliers(0.99999).factors[0] == 32767


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, np.nan])
def test_scales_must_be_calibrated(bad: float) -> None:
    with pytest.raises(InputError, match="Calibrate"):
        multipliers(bad)


def test_unknown_rounding() -> None:
    with pytest.raises(InputError, match="tflite15, q31, exact"):
        multipliers(1.0, "nearest")
