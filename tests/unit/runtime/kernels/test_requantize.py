from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.kernels.requantize import multipliers, requantize_array

ACC = (1 << 47) - 1


def exact(acc: int, factor: int, shift: int) -> int:
    """The specification in rationals: floor(acc * factor / 2^shift + 1/2), clamped."""
    value = Fraction(acc * factor) / (Fraction(2) ** shift)
    rounded = floor(value + Fraction(1, 2))
    return min(max(rounded, -32768), 32767)


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
def test_it_rounds_half_up(acc: int, real: float) -> None:
    scale = multipliers(real)
    got = requantize_array(np.array([acc]), scale)[0]
    assert got == exact(acc, int(scale.factors[0]), int(scale.shifts[0]))


@given(real=st.floats(1e-300, 1e100))
def test_multiplier_errors(real: float) -> None:
    """The factor, cut to 15 bits, is within 2^-15 of the real multiplier."""
    m = multipliers(real)
    exponent = int(m.shifts[0])
    if exponent < 63:
        value = Fraction(int(m.factors[0])) / Fraction(2) ** exponent
        assert abs(value / Fraction(real) - 1) <= 2.0**-15


def test_tflite_factor_of_a_mantissa_that_rounds_up() -> None:
    below_one = np.nextafter(1.0, 0.0)
    m = multipliers(below_one)
    assert (m.factors[0], m.shifts[0]) == (16384, 14)
    assert multipliers(0.99999).factors[0] == 32767


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, np.nan])
def test_scales_must_be_calibrated(bad: float) -> None:
    with pytest.raises(InputError, match="Calibrate"):
        multipliers(bad)
