"""Functions tried against a reference on random values: every kind of difference is told."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from edgefusion.compiler.host.draws import KINDS, draws
from edgefusion.compiler.host.trial import difference, fault
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.host_signature import HostSignature, HostTensor
from tests.graph_cases import parse

Array = npt.NDArray[Any]
EMPTY = onnx.ModelProto()
Y = HostTensor("y", (4,), "float32")


def of_floats(function: Callable[[Array], Array]) -> str:
    """What is found of a function that should be the identity of four floats."""
    signature = HostSignature("f", (HostTensor("x", (4,), "float32"),), (), (Y,))
    return fault(
        signature,
        lambda values: [function(values[0].astype(np.float32))],
        lambda values: [values[0].astype(np.float32)],
        EMPTY,
    )


def test_rounding_is_no_difference() -> None:
    assert of_floats(lambda x: x) == ""
    assert of_floats(lambda x: x + np.float32(1e-5) * np.abs(x).max()) == ""


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x.astype("d"), "'y' holds float64 instead of float32"),
        (lambda x: x + np.float32(1e-2) * np.abs(x).max(), r"'y' at 3\d dB"),
        (lambda x: np.where(x > 0, x, 0).astype("f"), r"'y' at \d+ dB"),
        (lambda x: np.round(x * 2) / np.float32(2), r"'y' at \d+ dB"),  # true of round values only
        (lambda x: np.clip(x, -20, 20), r"'y' at \d+ dB"),  # wrong for large ones only
        (lambda x: x[:3], r"'y' has shape \[3\] instead of \[4\]"),
        (lambda x: x * np.float32(np.nan), "'y' is NaN in other places"),
        (lambda x: x / np.float32(0), "'y' is infinite in other places"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_differences(function: Callable[[Array], Array], reason: str) -> None:
    found = of_floats(function)
    assert found.startswith("TVM computes it differently: ")
    assert re.search(reason, found)


def test_integers_are_exact_and_reasons_name_the_output() -> None:
    i = HostTensor("i", (3,), "int64")
    wanted = [np.ones(4, "f"), np.array([1, 2, 1 << 40])]
    assert difference((Y, i), wanted, wanted) == ""
    assert difference((Y, i), [wanted[0], wanted[1] + [0, 0, 1]], wanted) == "1 of 3 values of 'i'"
    assert difference((Y, i), wanted[:1], wanted) == "1 results instead of 2"
    zeros = [np.zeros(4, "f")]
    assert "is not 0" in difference((Y,), [zeros[0] + np.float32(1e-9)], zeros)


def test_a_fault_of_the_code_is_a_reason_and_of_the_reference_is_not() -> None:
    def broken(values: Sequence[Array]) -> Sequence[Array]:
        raise InputError("as text") from AttributeError("no __dlpack__\nand a stack")

    def picky(values: Sequence[Array]) -> Sequence[Array]:
        if (values[0] <= 0).any():
            raise InputError("only positive ones")
        return values

    def never(values: Sequence[Array]) -> Sequence[Array]:
        raise InputError("nothing suits it")

    x = HostTensor("x", (64,), "float32")
    signature = HostSignature("f", (x,), (), (HostTensor("y", (64,), "float32"),))
    assert fault(signature, broken, picky, EMPTY) == (
        "code by TVM fails: AttributeError: no __dlpack__"
    )
    assert fault(signature, list, picky, EMPTY) == ""
    assert "nothing from random values" in fault(signature, list, never, EMPTY)


def test_draws_hold_what_tells_functions_apart() -> None:
    model = parse("g (float[4] x) => (float[4] y) <float[1] t = {261}> { y = Mul(x, t) }")
    tensors = (
        HostTensor("f", (500,), "float32"),
        HostTensor("i", (500,), "int64"),
        HostTensor("u", (500,), "uint8"),
        HostTensor("at", (500,), "int64", extent=7),
        HostTensor("b", (500,), "bool"),
        HostTensor("s", (), "float16"),
        HostTensor("none", (2, 0), "float32"),
        HostTensor("large", (300, 300), "float32"),
    )
    drawn = dict(zip(KINDS, draws(tensors, model), strict=True))
    for values in drawn.values():
        for tensor in tensors:
            assert values[tensor.name].shape == tensor.shape
            assert values[tensor.name].dtype == tensor.dtype
        assert set(values["at"]) == set(range(-7, 7))
        assert set(values["b"]) == {False, True}
    assert drawn["positive"]["f"].min() > 0
    assert drawn["positive"]["i"].min() == 1
    assert drawn["small"]["f"].min() < 0 < drawn["small"]["f"].max()
    assert {261, 0, 0.5, -1.5} <= set(drawn["round"]["f"])
    assert 261 in drawn["round"]["i"]
    assert np.abs(drawn["large"]["i"]).max() > 1 << 40
    assert not drawn["zero"]["i"].any()
    again = next(draws(tensors, model))
    assert all(np.array_equal(again[name], drawn["small"][name]) for name in again)
    assert math.isclose(float(np.std(again["large"])), 1, rel_tol=0.02)
