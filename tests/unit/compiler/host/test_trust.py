"""What compiled code is not trusted with, told from a model, and what the runtime checks."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.compiler.host.trust import Bounds, bounds
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.host_signature import HostTensor, fitted
from tests.graph_cases import parse

DIVIDE = "g (int32[4] x, int32[4] y) => (int32[4] z) <int32[4] k = {%s}> { z = %s }"


@pytest.mark.parametrize(
    ("index", "refusal"), [(3, ""), (4, "Gather has indices out of bounds"), (-4, "")]
)
def test_constant_indices(index: int, refusal: str) -> None:
    text = f"g (float[4] x) => (float[1] y) <int64[1] i = {{{index}}}> {{ y = Gather(x, i) }}"
    assert bounds(parse(text)) == Bounds({}, frozenset(), refusal)


@pytest.mark.parametrize(
    ("constants", "formula", "refusal"),
    [
        ("1, 2, -3, 4", "Div(x, k)", ""),
        ("1, 2, -4, 4", "Mod(x, k)", ""),
        ("1, 0, -3, 4", "Mod(x, k)", "Mod of integers has a divisor of 0 or -1"),
        ("1, 2, -1, 4", "Div(x, k)", "Div of integers has a divisor of 0 or -1"),
        ("1, 2, -3, 4", "Div(k, y)", "Div of integers has a divisor that only ONNX Runtime checks"),
        ("1, 2, 3, 4", "Mod(x, y)", "Mod of integers has a divisor that only ONNX Runtime checks"),
    ],
)
def test_quotients_of_integers(constants: str, formula: str, refusal: str) -> None:
    found = bounds(parse(DIVIDE % (constants, formula)))
    assert found.refusal == refusal
    may_end_the_process = "-1" in constants or "only" in refusal
    assert found.dividends == (frozenset("xy") if may_end_the_process else frozenset())


def test_quotients_of_floats_are_trusted() -> None:
    text = "g (float[4] x, float[4] y) => (float[4] z) { a = Div(x, y) z = Mod<fmod = 1>(a, y) }"
    assert bounds(parse(text)) == Bounds()


@pytest.mark.parametrize(
    "text",
    [
        "g (float[4] x, int64[2, 1] i) => (float[2] z) { z = GatherND(x, i) }",
        (
            "g (float[1, 1, 4, 4] x, float[1, 2, 2, 2] i) => (float[1, 1, 2, 2] z) "
            "{ z = GridSample(x, i) }"
        ),
    ],
)
def test_addresses_from_values(text: str) -> None:
    assert "has indices that only ONNX Runtime checks" in bounds(parse(text)).refusal


def test_tensors_without_elements() -> None:
    text = "g (float[1, 6] x) => (float[1, 6] y) { y = Concat<axis = 1>(x, z) }"
    assert "'z' has shape [1, 0]" in bounds(parse(text, {"z": np.zeros((1, 0), "f")})).refusal


def test_the_least_integer_is_no_dividend() -> None:
    tensor = HostTensor("x", (2,), "int32", divided=True)
    lowest = np.iinfo(np.int32).min
    assert fitted("f", tensor, np.array([lowest + 1, -1])).tolist() == [lowest + 1, -1]
    with pytest.raises(InputError, match="'x' holds -2147483648, the least int32"):
        fitted("f", tensor, np.array([0, lowest]))


def test_infinities_of_one_sign() -> None:
    text = "g (float[4] x) => (bool[4] z) { z = IsInf<detect_negative = 0>(x) }"
    assert "one sign alone" in bounds(parse(text)).refusal
    assert bounds(parse("g (float[4] x) => (bool[4] z) { z = IsInf(x) }")) == Bounds()
