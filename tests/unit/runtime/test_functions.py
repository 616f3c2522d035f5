"""The tables of functions: costs that programs depend on, and what must not collide."""

from __future__ import annotations

from edgefusion.runtime.functions import BINARY, UNARY, binary_class, unary_class
from edgefusion.runtime.isa import VECTOR_FUNCTIONS
from edgefusion.runtime.target import load_target


def test_costs_on_the_exynos2400() -> None:
    cycles = load_target("exynos2400").machine.vector_cycles
    unary = {
        "relu": 1.0,
        **dict.fromkeys(("silu", "gelu", "gelu_tanh", "quick_gelu", "sigmoid", "tanh", "exp"), 3.0),
        **dict.fromkeys(("relu6", "softplus", "hard_swish", "erf"), 4.0),
    }
    assert {name: cycles[unary_class(name)] for name in unary} == unary
    binary = {"add": 1.0, "mul": 1.0, "sub": 2.0, "div": 2.0, "max": 2.0, "min": 2.0, "pow": 2.0}
    assert {name: cycles[binary_class(name)] for name in binary} == binary


def test_every_cost_class_is_listed_once() -> None:
    assert len(set(VECTOR_FUNCTIONS)) == len(VECTOR_FUNCTIONS)
    classes = {row.cost_class for row in (*UNARY.values(), *BINARY.values())}
    assert classes < set(VECTOR_FUNCTIONS)


def test_names_and_codes_do_not_collide() -> None:
    assert not UNARY.keys() & BINARY.keys()
    assert {name: row.code for name, row in BINARY.items()} == {
        "add": 0, "sub": 1, "mul": 2, "div": 3, "max": 4, "min": 5
    }  # fmt: skip
